-- name: nonces_spend
-- The keys that were spent now, for the first time; null for all; with a null among them if the terms are others.
select spend_nonces($keys, $seconds, $floor, $timeline);

-- name: nonces_terms
-- The terms on which nonces are spent now, and the server's own timeline and clock.
select floor, timeline, left(pg_walfile_name(pg_current_wal_lsn()), 8) as here,
    extract(epoch from clock_timestamp())::double precision as now
from nonce_floor;

-- name: nonces_lock
-- Who moves the floor or empties a slot; until the end of the transaction.
select pg_advisory_xact_lock($lock);

-- name: nonces_try_lock
-- The same, if nobody else is at it.
select pg_try_advisory_xact_lock($lock);

-- name: nonces_floor_raise
-- No nonce from before $floor is accepted any more. It never goes down, and counts on the timeline of this server.
update nonce_floor set floor = greatest(floor, $floor), timeline = left(pg_walfile_name(pg_current_wal_lsn()), 8)
where floor < $floor or timeline <> left(pg_walfile_name(pg_current_wal_lsn()), 8);

-- name: nonces_left_behind
-- Slots that are outside of the window and not empty.
select slot from generate_series(0, 31) as slot, nonce_floor
where (slot - floor / 60 % 32 + 32) % 32 >= 24 and pg_relation_size(format('nonces_%s', slot)::regclass) > 0;

-- name: nonces_slot_empty
-- Empty a slot; false if it is in the window, or its lock is not to be had.
select empty_nonce_slot($slot);

-- name: nonce_database_name
-- The name by which the layouts know this database.
select name from nonce_database;

-- name: nonce_layouts_share
-- Nobody adds a layout until the end of the transaction.
select pg_advisory_xact_lock_shared($lock);

-- name: nonce_layouts_lock
-- Who adds a layout; until the end of the transaction.
select pg_advisory_xact_lock($lock);

-- name: nonce_layouts_read
-- The layouts by their beginnings, and the server's clock. One row at least.
select here.now, from_second, databases
from (select extract(epoch from clock_timestamp())::double precision as now) as here
left join nonce_layouts on true
order by from_second;

-- name: nonce_layout_add
-- Spread nonces over $databases from a second on that is $ahead of the server's clock; gives it.
insert into nonce_layouts (from_second, databases)
select greatest(ceil(extract(epoch from clock_timestamp()))::bigint + $ahead, max(from_second) + 1), $databases
from nonce_layouts
returning from_second;

-- name: token_nonces_spend
-- The keys that were spent now, for the first time, and count as long as their token.
select spend_token_nonces($keys, $expiries);

-- name: sweep_token_nonces
-- Nonces whose token has ended, also by the server: a worker whose clock is ahead must not let others pass them anew.
with gone as (
    delete from token_nonces where key = any (array(
        select key from token_nonces
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
