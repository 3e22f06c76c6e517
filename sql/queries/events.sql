-- name: events_before
-- The newest events but for those from $before on, of the last $most of them those that fit; null fits all. And the
-- oldest that was looked at, also where none fits.
with looked_at as (
    select * from events where event_id < $before order by event_id desc limit $most
), fitting as (
    select * from looked_at
    where ($subject::text is null or subject = $subject) and ($client_id::text is null or client_id = $client_id)
        and ($kind::text is null or kind = $kind or starts_with(kind, $kind || '.'))
)
select e.event_id, extract(epoch from e.at)::text as at, e.kind, e.subject, e.client_id, e.detail, e.request_id, e.address, e.actor,
    u.username, c.name as client_name, last.event_id as oldest, extract(epoch from last.at)::double precision as oldest_at
from (select event_id, at from looked_at order by event_id limit 1) last
left join fitting e on true
left join users u on u.subject = e.subject
left join clients c on c.client_id = e.client_id
order by e.event_id desc;

-- name: events_newest
-- The number after that of the newest event.
select coalesce(max(event_id), 0) + 1 from events;

-- name: chain_find
-- The ends of the chain, for who only reads.
select sealed_key, seq, link, base_seq, base_link, mac from event_chain;

-- name: chain_lock
-- The ends of the chain, for who moves them; nothing where somebody else is at it.
select sealed_key, seq, link, base_seq, base_link, mac from event_chain for update skip locked;

-- name: chain_wait
-- The same, when whoever is at it is done.
select sealed_key, seq, link, base_seq, base_link, mac from event_chain for update;

-- name: chain_move
-- Other ends.
update event_chain set sealed_key = $sealed_key, seq = $seq, link = $link, base_seq = $base_seq,
    base_link = $base_link, mac = $mac;

-- name: chain_is_empty
-- Whether no event has a place.
select not exists (select from events where seq is not null);

-- name: chain_is_complete
-- Whether no event waits for its place.
select not exists (select from events where seq is null);

-- name: events_unchained
-- Events that have no place yet. One that is being deleted stays aside, so that nobody waits.
select event_id, extract(epoch from at)::text as at, kind, subject, client_id, request_id, address, actor, detail, seq, proof
from events
where seq is null
order by event_id limit $most for update skip locked;

-- name: events_chain
-- Give events their places.
update events e set seq = n.seq, proof = n.proof
from unnest($event_ids::bigint[], $seqs::bigint[], $proofs::bytea[]) as n (event_id, seq, proof)
where e.event_id = n.event_id;

-- name: events_chained
-- Events in the order of the chain, after $after.
select event_id, extract(epoch from at)::text as at, kind, subject, client_id, request_id, address, actor, detail, seq, proof
from events
where seq > $after
order by seq limit $most;

-- name: events_set_aside
-- Give every event without a good place one after $seq, where the chain that begins anew does not look; how many.
with numbered as (
    update events e set seq = $seq + n.number
    from unnest(array(
        select event_id from events where seq is null
        union all
        select event_id from events where seq <= 0
        order by event_id
    )) with ordinality as n (event_id, number)
    where e.event_id = n.event_id
    returning 1
)
select count(*) from numbered;

-- name: events_last
-- The last place that an event has.
select coalesce(max(seq), 0) from events;

-- name: events_begin
-- The chain begins anew.
insert into events (at, kind, request_id, address, actor, proof)
values ($now, 'events.begun_anew', $request_id, $address, $actor, $proof);

-- name: event_link
-- The link of the event in that place.
select proof from events where seq = $seq;

-- name: events_refused
-- Events that did not prove to be ours when they were to get a place.
select event_id, extract(epoch from at)::text as at, kind, seq from events where seq <= 0 order by seq desc limit $most;

-- name: events_waiting
-- Events that wait for their place, which are few.
select event_id, extract(epoch from at)::text as at, kind, subject, client_id, request_id, address, actor, detail, seq, proof
from (select * from events where seq is null offset 0) as waiting
where event_id > $after
order by event_id limit $most;

-- name: events_oldest
-- The events at the beginning of the chain, each with whether its time is over by the earlier of two clocks.
select event_id, extract(epoch from at)::text as at, kind, subject, client_id, request_id, address, actor, detail, seq, proof,
    at <= least($now, now()) - $kept::interval as over, at > now() + interval '1 minute' as ahead
from events
where seq > $after
order by seq limit $batch;

-- name: events_remove
-- The beginning of the chain, from after $after up to $seq.
with gone as (
    delete from events where event_id = any (array(
        select event_id from events where seq > $after and seq <= $seq order by seq limit $batch
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_strays
-- Events whose time is over and that have no place in the chain: they are not ours, or from before it began anew.
with gone as (
    delete from events where event_id = any (array(
        select event_id from events
        where (seq is null or seq <= (select base_seq from event_chain))
            and at <= least($now, now()) - $kept::interval
        limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
