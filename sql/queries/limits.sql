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

-- name: quotas_take
-- Gives out calls of today: as many as wait for one, or a part of what is left, at most a block of it; never more than
-- is left. Where a key may not be a new one, and is, it gets no row. In the order of the keys, as above.
insert into quotas as q (day, key, most, taken, asked, given)
select d.day, t.key, t.most, g.given, t.asked, g.given
from unnest($keys::bytea[], $most::bigint[], $asked::bigint[], $grows::boolean[]) as t (key, most, asked, grows)
cross join (select (now() at time zone 'UTC')::date) as d (day)
cross join lateral (
    select least(t.most, greatest(t.asked, least($block::bigint, floor(t.most * $part::double precision)::bigint)))
) as g (given)
where t.grows or exists (select from quotas o where o.day = d.day and o.key = t.key)
order by t.key
on conflict (day, key) do update set
    most = excluded.most,
    asked = excluded.asked,
    given = greatest(0, least(excluded.most - q.taken, greatest(
        excluded.asked, least($block, floor((excluded.most - q.taken) * $part)::bigint)))),
    taken = q.taken + greatest(0, least(excluded.most - q.taken, greatest(
        excluded.asked, least($block, floor((excluded.most - q.taken) * $part)::bigint))))
returning key, day, given, greatest(0, most - taken) as remaining,
    extract(epoch from ((day + 1)::timestamp at time zone 'UTC') - now())::double precision as seconds;

-- name: quotas_taken
-- What was taken of quotas today, for whoever counts on and takes nothing; and, also where there is none, how long the day
-- lasts.
select q.key, q.taken,
    extract(epoch from ((d.day + 1)::timestamp at time zone 'UTC') - now())::double precision as seconds
from (select (now() at time zone 'UTC')::date) as d (day)
left join quotas q on q.day = d.day and q.key = any($keys::bytea[]);

-- name: quotas_give_back
-- Takes calls back that were given out and did not pass.
with back as (
    select q.day, q.key, t.unspent
    from unnest($days::date[], $keys::bytea[], $unspent::bigint[]) as t (day, key, unspent)
    join quotas q on q.day = t.day and q.key = t.key
    order by q.day, q.key for no key update of q
)
update quotas q set taken = q.taken - back.unspent
from back where q.day = back.day and q.key = back.key;

-- name: quotas_count
-- How many rows there are of today, up to so many.
select count(*) from (
    select from quotas where day = (now() at time zone 'UTC')::date limit $most
) as today;

-- name: sweep_quotas
-- Quotas of days before yesterday.
with gone as (
    delete from quotas where (day, key) in (
        select day, key from quotas
        where day < (least($now, now()) at time zone 'UTC')::date - 1 order by day limit $batch for update skip locked
    )
    returning 1
)
select count(*) from gone;
