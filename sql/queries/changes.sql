-- name: changes_read
-- What changed after $after, at most $most of it, each as kind, space, key; the ends of the log in the same snapshot;
-- and what tells this server's history from another's. The timeline is that of the log's name, which an ordinary role
-- may ask for, and which a promotion changes at once, while that in the control file waits for a checkpoint. And the
-- time.
select
    extract(epoch from pg_postmaster_start_time())::double precision as server,
    left(pg_walfile_name(pg_current_wal_lsn()), 8) as timeline,
    extract(epoch from clock_timestamp())::double precision as now,
    (select coalesce(min(id), 0) from changes) as oldest,
    (select coalesce(max(id), 0) from changes) as newest,
    (select at from changes order by id desc limit 1) as newest_at,
    array(select kind || ' ' || key from changes where id > $after order by id limit $most) as changes;

-- name: changes_read_on_standby
-- What changed after the change $newest of the moment $newest_at, at most $most of it, as far as the server holds it;
-- nothing where it does not hold that one.
select id, at, kind, key from changes
where id > $newest and exists (select from changes where id = $newest and at = $newest_at)
order by id limit $most;

-- name: sweep_changes
-- Changes that everybody has read or will never ask for again; the newest stays, so that the log has an end.
with gone as (
    delete from changes where id = any (array(
        select id from changes
        where at <= least($now, now()) - $kept::interval and id < (select max(id) from changes)
        order by id limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
