-- A session remembers how often its person had been shut out when it began: by a new password, or by being disabled.
-- Deleting the sessions is not enough, for one that is being written meanwhile is not seen: it would survive the new
-- password, and come alive when the person is enabled again. Compared at each look-up, it is dead from the start.

alter table users add column session_generation integer not null default 0;
alter table sessions add column generation integer not null default 0;

-- The one place that says what a session's life hangs on besides its time.
create view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.expires_at, u.subject, u.username, u.email, u.name, u.created_at,
    u.disabled_at, u.generation as user_generation
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;
