-- name: rates_tell
-- Tells what passed, as the seconds that it takes to flow in again, and how many calls were asked for; and gives for
-- each bucket the seconds until it is full, and the calls that all workers were asked for lately. Always in the same
-- order, so that workers never wait for each other in a circle.
insert into rate_buckets as b (key, full_at, demand, told_at)
select t.key, now() + t.seconds * interval '1 second', t.asked, now()
from unnest($keys::bytea[], $seconds::double precision[], $asked::double precision[]) as t (key, seconds, asked)
order by t.key
on conflict (key) do update set
    full_at = greatest(b.full_at, now()) + (excluded.full_at - now()),
    demand = b.demand * exp(-least(50, greatest(0, extract(epoch from now() - b.told_at))))::double precision
        + excluded.demand,
    told_at = greatest(b.told_at, now())
returning key, extract(epoch from full_at - now())::double precision as seconds, demand;

-- name: rates_count_workers
-- Says that this worker lives, and counts the others that do.
with noted as (
    insert into rate_workers (worker, seen_at) values ($worker, now())
    on conflict (worker) do update set seen_at = excluded.seen_at
)
select count(*) from rate_workers where worker <> $worker and seen_at > now() - interval '15 seconds';

-- name: rates_leave
-- Says that this worker ends.
delete from rate_workers where worker = $worker;

-- name: sweep_rate_buckets
-- Buckets that are full.
with gone as (
    delete from rate_buckets where key = any (array(
        select key from rate_buckets
        where full_at <= least($now, now()) and told_at <= now() - interval '10 seconds'
        limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_rate_workers
-- Workers that ended without a word.
with gone as (
    delete from rate_workers where worker = any (array(
        select worker from rate_workers
        where seen_at <= least($now, now()) - interval '1 hour' limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
