-- Nonces of signed requests: what makes each pass once, whatever worker and replica it reaches.
--
-- A nonce with a timestamp (MAC drafts 01 and 02, HTTP Message Signatures) is remembered for as long as its timestamp
-- could still be accepted. The ring holds one partition for each minute of timestamps:
--
--     minute                     … floor ──────── window, 24 minutes ────────┐ …
--     slot = minute mod 32       …   │   remembered, never emptied           │   left behind: emptied by TRUNCATE
--
--   * No nonce below the floor is accepted any more, and the floor only rises. So a slot that was emptied revives
--     nothing, also not for a worker whose clock was set back.
--   * Only slots outside of the window are emptied, and who spends a nonce keeps within it. Floor and slots move under
--     one advisory lock: "nonc", 1852796515.
--   * The floor is looked at after the nonce was written, by a statement and snapshot of its own. One that was written
--     into a slot before it was emptied holds the partition's lock until its commit; one that was written afterwards
--     sees the floor that was raised before. That is why `spend_nonces` is a function.
--   * 32 slots for 24 minutes: a slot that cannot be emptied at once (a backup holds it) has eight more to go, and is
--     emptied in a later round if that is not enough. Nobody waits for it.
--
-- A nonce without a timestamp (MAC draft 00) counts for as long as its token, whose end somebody may alter: it is
-- remembered by itself, not in a partition of that end, and removed in batches.

create table nonces (
    slot smallint not null,
    key bytea not null,
    constraint nonces_pkey primary key (key, slot)
) partition by list (slot);
alter table nonces alter column key set storage plain; -- or each partition would have a TOAST table

-- Nothing in them is ever updated or deleted, so there is nothing to vacuum.
do $$
begin
    for slot in 0 .. 31 loop
        execute format('create table nonces_%s partition of nonces for values in (%s) with (autovacuum_enabled = off)',
            slot, slot);
    end loop;
end
$$;

create table token_nonces (
    key bytea not null,
    expires_at timestamptz not null,
    constraint token_nonces_pkey primary key (key)
);
create index token_nonces_expires_at on token_nonces (expires_at);

-- The floor in seconds since 1970, 0 before its first use, and the timeline on which it counts: another one may have
-- forgotten what this one has promised to remember.
create table nonce_floor (
    singleton boolean primary key default true,
    floor bigint not null,
    timeline text not null,
    constraint nonce_floor_singleton_check check (singleton)
);
insert into nonce_floor (floor, timeline) values (0, left(pg_walfile_name(pg_current_wal_lsn()), 8));

-- Spends nonces by their timestamps, in seconds since 1970, on terms that the caller knows: floor and timeline. Gives
-- the keys that were spent now, for the first time; null stands for all of them. A null among them says that these are
-- no longer the terms, and are to be asked for.
--
-- A batch whose nonces are all new, as nearly every one is, is inserted plainly. `on conflict` would look each key up
-- twice and mark each row twice in the log, a quarter of what the database spends on a nonce. Where one of the keys is
-- there already, the plain insert is undone and made again by `on conflict`, which leaves out what was spent; who
-- replays so costs twice the rows, and they leave with their partition.
--
-- Both sort, and the second begins with nothing held, or two batches that overlap would deadlock. Whatever the
-- connection's settings were, as behind a pooler, a nonce is on the disk before it counts.
create function spend_nonces(keys bytea[], seconds bigint[], known_floor bigint, known_timeline text)
returns bytea[] language plpgsql as $$
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
    if exists (select from nonce_floor where floor = known_floor and timeline = known_timeline)
        and left(pg_walfile_name(pg_current_wal_lsn()), 8) = known_timeline
    then
        return spent;
    end if;
    return array_append(coalesce(spent, keys), null);
end
$$;

-- The same for nonces that count as long as their token: the keys that were spent now, for the first time.
create function spend_token_nonces(keys bytea[], expiries timestamptz[])
returns bytea[] language plpgsql as $$
declare
    spent bytea[];
    durable text := set_config('synchronous_commit', 'on', true);
begin
    with first as (
        insert into token_nonces (key, expires_at)
        select given.key, expiry from unnest(keys, expiries) as given (key, expiry) order by given.key
        on conflict do nothing
        returning key
    )
    select coalesce(array_agg(key), '{}') into spent from first;
    return spent;
end
$$;

-- Empties a slot unless it is in the window: true if it did. A lock that is not free at once, such as a backup's, is
-- not waited for, since whoever comes after would wait too. The caller holds the advisory lock.
create function empty_nonce_slot(slot integer) returns boolean language plpgsql as $$
declare
    patience text := set_config('lock_timeout', '50ms', true);
begin
    if exists (select from nonce_floor where (slot - floor / 60 % 32 + 32) % 32 < 24) then
        return false;
    end if;
    execute format('truncate nonces_%s', slot);
    return true;
exception
    when lock_not_available then
        return false;
end
$$;

-- Further databases that nonces are spread over (`gateway/guard/spread.py`).
--
-- Each database has a name of its own, by which the layouts know it, wherever it moves: a copy that is not a standby
-- needs another one (`update nonce_database set name = gen_random_uuid()`).
create table nonce_database (
    singleton boolean primary key default true,
    name text not null default gen_random_uuid()::text,
    constraint nonce_database_singleton_check check (singleton)
);
insert into nonce_database default values;

-- The layouts, of which those in the main database count: the names of the databases that nonces with a timestamp from
-- `from_second` on are spread over, '' for the main one; without any it is the only one. A row is never altered, and
-- added so long before its time that every worker knows it by then. Who adds one holds the advisory lock "nonl",
-- 1852796524, and who reads them shares it: so a reading that lacks a layout was before the moment that it was made.
create table nonce_layouts (
    from_second bigint primary key,
    databases text[] not null,
    constraint nonce_layouts_databases_check check (cardinality(databases) > 0)
);
