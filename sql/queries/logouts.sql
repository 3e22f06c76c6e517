-- name: logouts_claim
-- Applications that are to be told now, the longest due first; nobody else tries them for $lease.
update logouts l set attempts = l.attempts + 1, due_at = now() + $lease::interval
where l.logout_id = any (array(
    select logout_id from logouts where due_at <= now() order by due_at limit $batch for update skip locked
))
returning l.logout_id, l.client_id, l.subject, l.session_id, l.ended_at, l.attempts;

-- name: logout_delivered
-- An application that was told.
with told as (
    delete from logouts where logout_id = $logout_id returning client_id, subject, session_id, attempts
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'logout.delivered', subject, client_id,
        jsonb_build_object('session_id', session_id, 'attempts', attempts), $request_id, $address, $actor, $proof::bytea
    from told
)
select 1 from told;

-- name: logout_again
-- An application that could not be told, and will be again after $after.
update logouts set due_at = now() + $after::interval where logout_id = $logout_id;

-- name: logout_given_up
-- An application that cannot be told.
with given_up as (
    delete from logouts where logout_id = $logout_id returning client_id, subject, session_id, attempts
), recorded as (
    insert into events (at, kind, subject, client_id, detail, request_id, address, actor, proof)
    select $now, 'logout.undelivered', subject, client_id,
        jsonb_build_object('session_id', session_id, 'attempts', attempts, 'cause', $cause::text),
        $request_id, $address, $actor, $proof::bytea
    from given_up
)
select 1 from given_up;

-- name: logout_frames
-- The applications of a session that are told by the browser (OpenID Connect Front-Channel Logout 1.0).
select distinct c.client_id, c.openid ->> 'frontchannel_logout_uri' as uri
from families f
join grants g on g.grant_id = f.grant_id
join clients c on c.client_id = g.client_id
where f.session_id = $session_id and 'openid' = any (f.scopes) and c.openid ? 'frontchannel_logout_uri'
    and c.disabled_at is null
order by c.client_id
limit $most;
