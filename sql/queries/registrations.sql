-- name: registration_admit
-- One more registration or change from that place, unless there were $most since $since. Under its lock, since those
-- that are written at the same time do not see each other.
with admitted as (
    insert into registration_attempts (place, at)
    select $place, $now
    where (select count(*) from registration_attempts where place = $place and at > $since) < $most::bigint
    returning 1
)
select 1 from admitted;

-- name: registration_lock
-- One registration at a time counts what there was before it; the lock ends with the transaction.
select pg_advisory_xact_lock($lock);

-- name: registration_token_use
-- One use of an initial access token, if it has one left.
update registration_tokens set uses_left = uses_left - 1
where digest = $digest and uses_left > 0 and expires_at > $now
returning uses_left;

-- name: registration_token_is_good
-- Whether an initial access token has a use left.
select true from registration_tokens where digest = $digest and uses_left > 0 and expires_at > $now;

-- name: registration_add
-- What a client said of itself, and the digest of the token by which it manages that.
insert into registrations (client_id, token_digest, metadata, idle, expires_at)
values ($client_id, $digest, $metadata, $idle::interval, $now::timestamptz + $idle::interval);

-- name: registration_find
-- What a client said of itself, for who has its registration access token.
select metadata from registrations where client_id = $client_id and token_digest = $digest;

-- name: registration_lock_row
-- The same, so that changes come one after the other.
select metadata from registrations where client_id = $client_id and token_digest = $digest for update;

-- name: registration_secret_is
-- Whether that is a secret of the client.
select true from client_secrets
where client_id = $client_id and digest = $digest and (expires_at is null or expires_at > $now);

-- name: registration_change
-- What a client says of itself from now on.
update registrations set metadata = $metadata where client_id = $client_id;

-- name: registration_token_create
-- An initial access token that an operator gives away.
with created as (
    insert into registration_tokens (digest, created_at, expires_at, uses_left)
    values ($digest, $now, $expires_at, $uses)
    returning expires_at, uses_left
)
insert into events (at, kind, detail, request_id, address, actor, proof)
select $now, 'registration_token.created', jsonb_build_object('uses', uses_left, 'expires_at', expires_at),
    $request_id, $address, $actor, $proof::bytea
from created;

-- name: registration_tokens_revoke
-- Ends every initial access token that could still be used; counts them.
with ended as (
    delete from registration_tokens returning uses_left, expires_at
), recorded as (
    insert into events (at, kind, request_id, address, actor, proof)
    select $now, 'registration_token.revoked', $request_id, $address, $actor, $proof::bytea from ended
    where uses_left > 0 and expires_at > $now
)
select count(*) from ended where uses_left > 0 and expires_at > $now;
