-- name: ping
-- Whether the database answers.
select 1;

-- name: clock_read
-- The database's time, in seconds since 1970.
select extract(epoch from clock_timestamp())::double precision;

-- name: master_key_note
-- The master key that first wrote here.
insert into settings (master_key_id) values ($key_id) on conflict do nothing;

-- name: master_key_find
-- The master key that the data was written with.
select master_key_id from settings;

-- name: sweep_lock
-- Whether this worker is the one that sweeps now, and the database's time; the lock ends with the transaction.
select pg_try_advisory_xact_lock($lock) as locked, extract(epoch from now())::double precision as now;

-- name: sweep_sessions
-- Sessions that ended. Here and below the earlier of the worker's clock and ours counts: one that is
-- ahead must end nothing that lives.
with gone as (
    delete from sessions where session_id = any (array(
        select session_id from sessions
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_flows
-- Requests that nobody answers any more.
with gone as (
    delete from flows where flow_id = any (array(
        select flow_id from flows
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_codes
-- Codes that nobody redeemed in time. Spent ones leave with their family.
with gone as (
    delete from codes where digest = any (array(
        select digest from codes
        where expires_at <= least($now, now()) and spent_at is null
        order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_access_tokens
-- Access tokens that expired.
with gone as (
    delete from access_tokens where digest = any (array(
        select digest from access_tokens
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_refresh_tokens
-- Refresh tokens that expired, spent or not.
with gone as (
    delete from refresh_tokens where digest = any (array(
        select digest from refresh_tokens
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_families
-- Families of which nothing lives, with the codes that they began with.
with gone as (
    delete from families where family_id = any (array(
        select family_id from families
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_grants
-- Withdrawn grants from which nothing is left.
with gone as (
    delete from grants where grant_id = any (array(
        select grant_id from grants g
        where revoked_at <= least($now, now())
            and not exists (select from families f where f.grant_id = g.grant_id offset 0)
            and not exists (select from codes k where k.grant_id = g.grant_id offset 0)
        order by revoked_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_secrets
-- Client secrets whose overlap is over.
with gone as (
    delete from client_secrets where digest = any (array(
        select digest from client_secrets
        where expires_at <= least($now, now()) limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_attempts
-- Counts of wrong passwords that no longer count, and those that a clock which was ahead dated: nobody waits for them.
with gone as (
    delete from failed_attempts where (account, browser) in (
        select account, browser from failed_attempts
        where last_failed_at <= least($now, now()) - $kept::interval or last_failed_at > now() + interval '1 minute'
        order by last_failed_at limit $batch for update skip locked
    )
    returning 1
)
select count(*) from gone;

-- name: sweep_registrations
-- Clients that registered themselves and were not used for as long as was said then. What was issued to them expired
-- before: whoever issues it lengthens this.
with gone as (
    delete from clients where client_id = any (array(
        select client_id from registrations
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning client_id, name
), recorded as (
    insert into events (at, kind, client_id, detail, request_id, address, actor, proof)
    select $now, 'client.expired', client_id, jsonb_build_object('name', name),
        $request_id, $address, $actor, $proof::bytea from gone
)
select count(*) from gone;

-- name: sweep_registration_tokens
-- Initial access tokens that expired, or that no use is left of.
with gone as (
    delete from registration_tokens where digest = any (array(
        select digest from registration_tokens
        where expires_at <= least($now, now()) order by expires_at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_registration_attempts
-- Registrations that no limit counts any more, and those that a clock which was ahead dated.
with gone as (
    delete from registration_attempts where ctid = any (array(
        select ctid from registration_attempts
        where at <= least($now, now()) - $kept::interval or at > now() + interval '1 minute'
        order by at limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;

-- name: sweep_signing_keys
-- Signing keys that others have taken over from, once all that they signed has expired.
with gone as (
    delete from signing_keys where kid = any (array(
        select kid from signing_keys
        where greatest(signs_until, needed_until) <= least($now, now()) - $kept::interval and signs_until is not null
        order by signs_until limit $batch for update skip locked
    ))
    returning 1
)
select count(*) from gone;
