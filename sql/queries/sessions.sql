-- name: attempts_find
-- How many wrong passwords in a row accounts had from a browser, and when the last was.
select account, failures, last_failed_at from failed_attempts
where account = any ($accounts::bytea[]) and browser = $browser;

-- name: attempts_add
-- More wrong passwords of many accounts; a row that rested for $rest begins anew. Always in the same order, so that
-- workers that write at the same time do not wait for each other in a circle.
insert into failed_attempts as a (account, browser, failures, last_failed_at)
select * from unnest($accounts::bytea[], $browsers::bytea[], $failures::integer[], $last_failed_at::timestamptz[])
    as n (account, browser, failures, at)
order by account, browser
on conflict (account, browser) do update set
    failures = excluded.failures
        + case when a.last_failed_at <= excluded.last_failed_at - $rest::interval then 0 else a.failures end,
    last_failed_at = greatest(a.last_failed_at, excluded.last_failed_at)
returning account, browser, failures, last_failed_at;

-- name: attempts_clear
-- Rows that begin anew.
delete from failed_attempts
where (account, browser) in (select * from unnest($accounts::bytea[], $browsers::bytea[]));

-- name: attempts_forget
-- Nothing was ever wrong for these accounts, from whichever browser.
delete from failed_attempts where account = any ($accounts::bytea[]);

-- name: failures_note
-- Failures for the audit record, many of one account by one cause as one event.
insert into events (at, kind, subject, client_id, detail, request_id, address, proof)
select
    at, kind, subject, client_id, jsonb_strip_nulls(jsonb_build_object('failures', failures, 'cause', cause)),
    request_id, address, proof
from unnest(
        $at::timestamptz[], $kinds::text[], $subjects::text[], $client_ids::text[], $causes::text[],
        $failures::integer[], $request_ids::text[], $addresses::text[], $proofs::bytea[]
    ) as n (at, kind, subject, client_id, cause, failures, request_id, address, proof);

-- name: session_start
-- A live person's browser is signed in. $password_hash is the one that was checked, if the caller gives it: a password
-- that changed meanwhile opens nothing.
with person as (
    select subject, username, email, name, created_at, disabled_at, session_generation
    from users
    where subject = $subject and disabled_at is null
        and ($password_hash::text is null or password_hash = $password_hash)
    for key share
), started as (
    insert into sessions (
        session_id, token_digest, subject, generation, signed_in_at, expires_at, address, user_agent
    )
    select $session_id, $digest, subject, session_generation, $now, $expires_at, $address, $user_agent from person
    returning session_id, signed_in_at, expires_at
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'sign_in.succeeded', subject,
        jsonb_strip_nulls(jsonb_build_object('session_id', $session_id::text, 'user_agent', $user_agent::text)),
        $request_id, $address, $actor, $proof::bytea
    from person
)
select * from started, person;

-- name: session_find
-- The live session of a browser, with its live person. That it is in use is written down every five minutes.
with used as (
    update sessions set last_used_at = $now
    where token_digest = $digest and coalesce(last_used_at, signed_in_at) < $now::timestamptz - interval '5 minutes'
)
select session_id, signed_in_at, expires_at, subject, username, email, name, created_at, disabled_at
from living_sessions
where token_digest = $digest and expires_at > $now;

-- name: visit_find
-- One row of what a browser comes with to an authorization request: the client, also a disabled one; the live session
-- with its live person, whose use is written down every five minutes; what the person has allowed the client, each time
-- with the resources that it is for; and all scopes that were made by command.
with used as (
    update sessions set last_used_at = $now
    where token_digest = $digest and coalesce(last_used_at, signed_in_at) < $now::timestamptz - interval '5 minutes'
)
select c.*, l.name as logo, o.username as owner_username, o.name as owner_name,
    s.session_id, s.signed_in_at, s.expires_at, s.subject, s.username, s.email, s.name as person,
    s.created_at as person_since, (select json_object_agg(name, description order by name) from scopes) as made,
    (
        select json_agg(json_build_array(g.resource, g.scopes)) from grants g
        where g.subject = s.subject and g.client_id = $client_id and g.revoked_at is null
    ) as granted
from (values (1)) as visit
left join clients c on c.client_id = $client_id
left join client_logos l on l.client_id = c.client_id
left join users o on o.subject = c.owner
left join living_sessions s on s.token_digest = $digest and s.expires_at > $now;

-- name: sessions_find
-- Many sessions that live but for their time, with what upstreams are told of their people, and the server that says so.
select token_digest as digest, subject, username, email, groups, signed_in_at, expires_at, acr,
    extract(epoch from pg_postmaster_start_time())::double precision as server
from living_sessions
where token_digest = any($digests::bytea[]);

-- name: sessions_note
-- Sessions that were used. What somebody else is writing is passed by.
with due as (
    select session_id from sessions
    where token_digest = any ($digests::bytea[])
        and coalesce(last_used_at, signed_in_at) < $now::timestamptz - interval '4 minutes'
    order by session_id for no key update skip locked
)
update sessions s set last_used_at = $now from due where s.session_id = due.session_id;

-- name: session_end
-- Signed out: the session is gone.
with gone as (
    delete from sessions where token_digest = $digest returning subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'signed_out', subject, $request_id, $address, $actor, $proof::bytea from gone
)
select subject from gone;

-- name: session_new_password
-- A person's own new password: only while they are signed in by this session, and $old_hash is the password's hash still.
-- It ends every session that began with the old one, this one too, and those that begin at this moment by the
-- generation that they saw.
with changed as (
    update users u set password_hash = $password_hash, session_generation = session_generation + 1
    from living_sessions s
    where s.session_id = $session_id and s.expires_at > $now and u.subject = s.subject and u.disabled_at is null
        and u.password_hash = $old_hash
    returning u.subject
), ended as (
    delete from sessions using changed where sessions.subject = changed.subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'user.password_changed', subject, $request_id, $address, $actor, $proof::bytea from changed
)
select subject from changed;

-- name: sessions_of
-- The browsers that a person is signed in with, the one that was seen last first.
select session_id, signed_in_at, coalesce(last_used_at, signed_in_at) as last_seen_at, address, user_agent
from (select * from sessions where subject = $subject offset 0) as s
where expires_at > $now and exists (select from living_sessions l where l.session_id = s.session_id offset 0)
order by last_seen_at desc, session_id limit $most;

-- name: sessions_end
-- Signs a person out of one browser, or of all of them where $session_id is null.
with gone as (
    delete from sessions where subject = $subject and ($session_id::text is null or session_id = $session_id)
    returning session_id, subject, signed_in_at, coalesce(last_used_at, signed_in_at) as last_seen_at, address, user_agent
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'session.ended', subject, jsonb_build_object('session_id', session_id),
        $request_id, $address, $actor, $proof::bytea
    from gone
)
select session_id, signed_in_at, last_seen_at, address, user_agent from gone;
