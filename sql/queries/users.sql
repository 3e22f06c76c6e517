-- name: user_create
-- A new person who can sign in.
with created as (
    insert into users (subject, username, email, name, password_hash, email_verified, claims, groups, created_at)
    values ($subject, $username, $email, $name, $password_hash, $email_verified, $claims, $groups, $now)
    returning subject, username, email, name, created_at, disabled_at
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'user.created', subject, jsonb_build_object('username', username),
        $request_id, $address, $actor, $proof::bytea from created
)
select * from created;

-- name: users_list
-- Everybody, by name.
select * from (select subject, username, email, name, created_at, disabled_at from users offset 0) as everybody
order by lower(username collate "C");

-- name: user_find
-- The person of that username, whatever its letters' case.
select subject, username, email, name, created_at, disabled_at from users
where lower(username collate "C") = lower($username collate "C");

-- name: user_profile
-- All that applications may learn of the person of that username.
select subject, username, email, name, created_at, disabled_at, email_verified, claims, groups,
    coalesce(updated_at, created_at) as updated_at
from users
where lower(username collate "C") = lower($username collate "C");

-- name: user_profile_of
-- All that applications may learn of the person of that subject.
select subject, username, email, name, created_at, disabled_at, email_verified, claims, groups,
    coalesce(updated_at, created_at) as updated_at
from users
where subject = $subject;

-- name: pairwise_subject
-- What clients of a sector know a person by: $known_as where they do not know them yet.
with added as (
    insert into pairwise_subjects (sector, subject, known_as)
    select $sector, subject, $known_as from users where subject = $subject
    on conflict (sector, subject) do nothing
    returning known_as
)
select known_as from added
union all
select known_as from pairwise_subjects where sector = $sector and subject = $subject;

-- name: user_candidate
-- Whom a sign-in form means by a username or an email address, which never look alike; also somebody disabled, whom
-- no session is begun for.
select subject, username, email, name, created_at, disabled_at, password_hash
from users
where lower(username collate "C") = lower($login collate "C") or lower(email collate "C") = lower($login collate "C");

-- name: user_update
-- What a person is called anew, and what else is known of them; null keeps it, and an empty email address or name is
-- none. $claims replaces those that it names, and removes those that are null in it. Another email address is not
-- verified unless it is said to be.
with changed as (
    update users set
        username = coalesce($new_username, username),
        email = case when $email::text is null then email else nullif($email, '') end,
        name = case when $name::text is null then name else nullif($name, '') end,
        email_verified = coalesce(
            $email_verified,
            email_verified and coalesce(lower($email collate "C") = lower(email collate "C"), true)
        ),
        claims = jsonb_strip_nulls(claims || $claims::jsonb),
        groups = coalesce($groups::text[], groups),
        updated_at = $now
    where lower(username collate "C") = lower($username collate "C")
    returning subject, username, email, name, created_at, disabled_at
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'user.updated', subject, jsonb_build_object('username', username),
        $request_id, $address, $actor, $proof::bytea from changed
)
select * from changed;

-- name: user_set_password
-- A new password, which ends every session that began with the old one: those that begin at this moment by the
-- generation that they saw.
with changed as (
    update users set password_hash = $password_hash, session_generation = session_generation + 1
    where lower(username collate "C") = lower($username collate "C")
    returning subject, username, email
), ended as (
    delete from sessions using changed where sessions.subject = changed.subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'user.password_changed', subject, $request_id, $address, $actor, $proof::bytea from changed
)
select * from changed;

-- name: user_unlock
-- A person whose wrong passwords are about to be forgotten.
with person as (
    select subject, username, email from users where lower(username collate "C") = lower($username collate "C")
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'user.unlocked', subject, $request_id, $address, $actor, $proof::bytea from person
)
select * from person;

-- name: user_disable
-- Nobody any more: sessions end at once, and what was issued is dead for good.
with changed as (
    update users set
        disabled_at = coalesce(disabled_at, $now), generation = generation + 1,
        session_generation = session_generation + 1
    where lower(username collate "C") = lower($username collate "C")
    returning subject
), ended as (
    delete from sessions using changed where sessions.subject = changed.subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'user.disabled', subject, $request_id, $address, $actor, $proof::bytea from changed
)
select subject from changed;

-- name: user_enable
-- May sign in again; what was ended stays ended.
with changed as (
    update users set disabled_at = null
    where lower(username collate "C") = lower($username collate "C")
    returning subject
), recorded as (
    insert into events (at, kind, subject, request_id, address, actor, proof)
    select $now, 'user.enabled', subject, $request_id, $address, $actor, $proof::bytea from changed
)
select subject from changed;

-- name: user_sign_out
-- Ends every session of a person who is about to be deleted.
with person as (
    select subject from users where lower(username collate "C") = lower($username collate "C") for update
)
delete from sessions using person where sessions.subject = person.subject;

-- name: user_delete
-- Gone for good, with sessions, grants and all that hangs on them.
with gone as (
    delete from users where lower(username collate "C") = lower($username collate "C") returning subject, username
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'user.deleted', subject, jsonb_build_object('username', username),
        $request_id, $address, $actor, $proof::bytea from gone
)
select subject from gone;

-- name: user_revoke
-- Ends every token and code of a person; counts the access tokens and families that lived.
with ended as (
    update users set generation = generation + 1
    where lower(username collate "C") = lower($username collate "C")
    returning subject
), counted as (
    select
        (
            select count(*)
            from (select digest, expires_at from access_tokens where subject = e.subject offset 0) as t
            where t.expires_at > $now
                and exists (select from living_access_tokens l where l.digest = t.digest offset 0)
        ) + (
            select count(*) from grants g
            cross join lateral (
                select family_id, expires_at from families where grant_id = g.grant_id offset 0
            ) as f
            where g.subject = e.subject and f.expires_at > $now
                and exists (select from living_families l where l.family_id = f.family_id offset 0)
        ) as n
    from ended e
), recorded as (
    insert into events (at, kind, subject, detail, request_id, address, actor, proof)
    select $now, 'token.revoked', subject, '{"all": true}', $request_id, $address, $actor, $proof::bytea from ended
)
select n from counted;
