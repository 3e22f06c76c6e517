-- Spends nonces as before (0006_nonces), for less: a batch whose nonces are all new, as nearly every one is, is
-- inserted plainly. `on conflict` would look each key up twice and mark each row twice in the log, a quarter of what
-- the database spends on a nonce. Where one of the keys is there already, the plain insert is undone and made again
-- by `on conflict`, which leaves out what was spent; who replays so costs twice the rows, and they leave with their
-- partition. Both sort, and the second begins with nothing held, so that batches still never deadlock.
create or replace function spend_nonces(
    keys bytea[], seconds bigint[], known_floor bigint, known_timeline text
) returns bytea[] language plpgsql as $$
declare
    spent bytea[]; -- null stands for all
    written integer;
    durable text := set_config('synchronous_commit', 'on', true);
begin
    if cardinality(keys) = 1 then -- without the subtransaction that undoing takes
        insert into nonces (slot, key) values (seconds[1] / 60 % 32, keys[1]) on conflict do nothing;
        get diagnostics written = row_count;
        if written = 0 then
            spent := '{}';
        end if;
    else
        begin
            insert into nonces (slot, key)
            select second / 60 % 32, given.key from unnest(keys, seconds) as given (key, second) order by given.key;
        exception when unique_violation then
            with first as (
                insert into nonces (slot, key)
                select second / 60 % 32, given.key from unnest(keys, seconds) as given (key, second) order by given.key
                on conflict do nothing
                returning key
            )
            select coalesce(array_agg(key), '{}') into spent from first;
        end;
    end if;
    if exists (
        select from nonce_floor
        where floor = known_floor and timeline = known_timeline and not exists (select from mac_nonces)
    ) and left(pg_walfile_name(pg_current_wal_lsn()), 8) = known_timeline then
        return spent;
    end if;
    return array_append(coalesce(spent, keys), null);
end
$$;
