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
