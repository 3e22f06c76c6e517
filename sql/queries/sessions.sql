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
-- Failures for the audit record, many of one account as one event.
insert into events (at, kind, subject, client_id, detail, request_id, address, proof)
select at, kind, subject, client_id, jsonb_build_object('failures', failures), request_id, address, proof
from unnest(
        $at::timestamptz[], $kinds::text[], $subjects::text[], $client_ids::text[], $failures::integer[],
        $request_ids::text[], $addresses::text[], $proofs::bytea[]
    ) as n (at, kind, subject, client_id, failures, request_id, address, proof);

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

-- name: session_end
-- Signed out: the session is gone.
with gone as (
    delete from sessions where token_digest = $digest returning subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'signed_out', subject, $request_id, $address, $actor, $proof::bytea from gone
)
select subject from gone;
