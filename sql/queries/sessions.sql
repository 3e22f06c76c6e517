-- name: attempts_find
-- How many wrong passwords in a row an account had from a browser, and when the last was.
select failures, last_failed_at from failed_attempts where account = $1 and browser = $2;

-- name: attempt_failed
-- One more in a row; a row that rested for $4 begins anew.
with counted as (
    insert into failed_attempts as a (account, browser, failures, last_failed_at)
    values ($1, $2, 1, $3)
    on conflict (account, browser) do update set
        failures = case when a.last_failed_at <= $3 - $4::interval then 1 else a.failures + 1 end,
        last_failed_at = greatest(a.last_failed_at, $3)
    returning failures
), recorded as (
    insert into events (at, kind, subject, detail)
    select $3, 'sign_in.failed', (select subject from users where subject = $5),
        jsonb_build_object('failures', failures)
    from counted
)
select failures from counted;

-- name: session_start
-- A live person's browser is signed in; the count of wrong passwords begins anew. $6 is the password hash that was
-- checked, if the caller gives it: a password that changed meanwhile opens nothing.
with person as (
    select subject, username, email, name, created_at, disabled_at, session_generation
    from users
    where subject = $3 and disabled_at is null and ($6::text is null or password_hash = $6)
    for key share
), started as (
    insert into sessions (session_id, token_digest, subject, generation, signed_in_at, expires_at)
    select $1, $2, subject, session_generation, $4, $5 from person
    returning session_id, signed_in_at, expires_at
), cleared as (
    delete from failed_attempts where account = $7 and exists (select from person)
), recorded as (
    insert into events (at, kind, subject) select $4, 'sign_in.succeeded', subject from person
)
select * from started, person;

-- name: session_find
-- The live session of a browser, with its live person.
select session_id, signed_in_at, expires_at, subject, username, email, name, created_at, disabled_at
from living_sessions
where token_digest = $1 and expires_at > $2;

-- name: session_end
-- Signed out: the session and its open flows are gone.
with gone as (
    delete from sessions where token_digest = $1 returning subject
), recorded as (
    insert into events (at, kind, subject) select $2, 'signed_out', subject from gone
)
select subject from gone;
