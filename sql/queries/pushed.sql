-- name: pushed_request_add
-- A request that a client pushed (RFC 9126, section 2.2); of a live client.
insert into pushed_requests (digest, client_id, request, created_at, expires_at)
select $digest, client_id, $request, $now, $expires_at
from clients
where client_id = $client_id and disabled_at is null
returning 1;

-- name: pushed_request_open
-- A client's request, for the browser that opens it first and for no other, and whether it is answered. From then on
-- there is time until $until for the answer.
update pushed_requests
set browser = $browser, expires_at = case when browser is null then $until else expires_at end
where digest = $digest and coalesce(client_id = $client_id, false) and expires_at > $now
    and (browser is null or browser = $browser)
returning request, spent_at is not null as answered;

-- name: pushed_request_look
-- The same without opening it, for what is no person's browser.
select request, spent_at is not null as answered
from pushed_requests
where digest = $digest and coalesce(client_id = $client_id, false) and expires_at > $now
    and (browser is null or browser = $browser);

-- name: pushed_request_lock
-- A request that is about to be answered, and was not yet; locked until the transaction ends.
select 1 from pushed_requests where digest = $digest and spent_at is null for update;

-- name: pushed_request_spend
-- It is answered, once.
update pushed_requests set spent_at = $now where digest = $digest and spent_at is null returning 1;

-- name: sweep_pushed_requests
-- Pushed requests that are over, answered or not.
with gone as (
    delete from pushed_requests where digest = any (array(
        select digest from pushed_requests
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
