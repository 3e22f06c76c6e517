-- name: mac_keys_under_others
-- Among the next access tokens by their digests: the last of them, and the live ones whose key another master key seals.
with page as (
    select digest, mac_key, expires_at from access_tokens where digest > $after order by digest limit $batch
), sealed as (
    select digest, mac_key from page
    where mac_key is not null and substring(mac_key for 4) <> $key_id and expires_at > $now
)
select (select digest from page order by digest desc limit 1) as last,
    (select coalesce(array_agg(digest order by digest), '{}') from sealed) as digests,
    (select coalesce(array_agg(mac_key order by digest), '{}') from sealed) as sealed;

-- name: mac_keys_reseal
-- Keys sealed anew, where they still are what they were. A row that somebody is changing is left for the next time:
-- nobody who ends many tokens at once is waited for, or made to wait.
with free as (
    select t.digest, n.fresh
    from unnest($digests::bytea[], $old::bytea[], $fresh::bytea[]) as n (digest, old, fresh)
    join access_tokens t on t.digest = n.digest and t.mac_key = n.old
    order by t.digest
    for update of t skip locked
), done as (
    update access_tokens t set mac_key = free.fresh from free where t.digest = free.digest returning 1
)
select count(*) from done;

-- name: access_tokens_since_before
-- Among the next access tokens by their digests: the last of them, and how many that may live were issued before $before.
with page as (
    select digest, issued_at, expires_at, revoked_at from access_tokens
    where digest > $after order by digest limit $batch
), resting as (
    select expires_at from page where issued_at < $before and expires_at > $now and revoked_at is null
)
select (select digest from page order by digest desc limit 1) as last,
    (select count(*) from resting) as count, (select max(expires_at) from resting) as until;

-- name: refresh_tokens_since_before
-- The same of refresh tokens; spent ones too, since whoever presents one again is to be found out.
with page as (
    select digest, issued_at, expires_at from refresh_tokens where digest > $after order by digest limit $batch
), resting as (
    select expires_at from page where issued_at < $before and expires_at > $now
)
select (select digest from page order by digest desc limit 1) as last,
    (select count(*) from resting) as count, (select max(expires_at) from resting) as until;

-- name: master_key_replace
-- The data is written with another master key from now on.
with changed as (
    update settings set master_key_id = $key_id where master_key_id <> $key_id returning 1
)
insert into events (at, kind, detail, request_id, address, actor, proof)
select $now, 'key.rotated', jsonb_build_object('key', encode($key_id::bytea, 'hex')),
    $request_id, $address, $actor, $proof::bytea
from changed;

-- name: signing_keys_all
-- The keys that sign or have signed, and those that are going to.
select kid, algorithm, public, sealed, signs_from, signs_until, needed_until from signing_keys order by signs_from, kid;

-- name: signing_keys_lock
-- Whoever makes a key does so alone until the transaction ends.
select pg_advisory_xact_lock($lock);

-- name: signing_key_add
-- A key that signs from $signs_from on, until when the one before it does.
with before as (
    update signing_keys set signs_until = $signs_from
    where algorithm = $algorithm and (signs_until is null or signs_until > $signs_from)
), made as (
    insert into signing_keys (kid, algorithm, public, sealed, created_at, signs_from)
    values ($kid, $algorithm, $public, $sealed, $now, $signs_from)
    returning kid, algorithm
)
insert into events (at, kind, detail, request_id, address, actor, proof)
select $now, 'signing_key.created', jsonb_build_object('kid', kid, 'algorithm', algorithm),
    $request_id, $address, $actor, $proof::bytea
from made;

-- name: signing_key_needed
-- What a key signs now expires by $until.
update signing_keys set needed_until = $until where kid = $kid and (needed_until is null or needed_until < $until);

-- name: signing_key_reseal
-- A key sealed anew, where it still is what it was.
update signing_keys set sealed = $sealed where kid = $kid and sealed = $sealed_before returning 1;

-- name: signing_keys_remove
-- Keys that somebody else may have: nobody is to believe what they sign.
with gone as (
    delete from signing_keys where kid = any ($kids::text[]) returning kid, algorithm
)
insert into events (at, kind, detail, request_id, address, actor, proof)
select $now, 'signing_key.removed', jsonb_build_object('kid', kid, 'algorithm', algorithm),
    $request_id, $address, $actor, $proof::bytea
from gone;
