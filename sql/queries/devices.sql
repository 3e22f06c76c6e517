-- name: device_code_add
-- A device of a live client waits; nothing if its user code is another's.
insert into device_codes (digest, user_code, client_id, scopes, resource, created_at, expires_at, pace)
select $digest, $user_code, client_id, $scopes, $resource, $now, $expires_at, $pace
from clients
where client_id = $client_id and disabled_at is null
on conflict (user_code) do nothing
returning 1;

-- name: device_code_find
-- The device that shows this code, and what became of it.
select digest, client_id, scopes, resource, decision, subject
from device_codes
where user_code = $user_code and expires_at > $now;

-- name: device_code_lock
-- A device that still waits, locked until the transaction ends: until when.
select expires_at from device_codes where digest = $digest and decision is null and expires_at > $now for update;

-- name: device_code_decide
-- What a person said, once.
update device_codes set decision = $decision, subject = $subject where digest = $digest and decision is null;

-- name: device_code_poll
-- A device code as the device asks for its tokens, locked until the transaction ends.
select client_id, expires_at, pace, polled_at, decision from device_codes where digest = $digest for update;

-- name: device_code_polled
-- The device has asked; from now on no sooner than $pace seconds after.
update device_codes set polled_at = $now, pace = $pace where digest = $digest;

-- name: sweep_device_codes
-- Device codes that are over for so long that nobody asks any more.
with gone as (
    delete from device_codes where digest = any (array(
        select digest from device_codes
        where expires_at <= least($now, now()) - $kept::interval order by expires_at limit $batch
        for update skip locked
    ))
    returning 1
)
select count(*) from gone;
