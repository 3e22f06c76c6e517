-- Browsers in which somebody has signed in.

create table sessions (
    session_id text primary key,
    token_digest bytea not null,
    subject text not null,
    generation integer not null, -- the person's `session_generation` when it began
    signed_in_at timestamptz not null,
    expires_at timestamptz not null,
    last_used_at timestamptz, -- to some minutes (`gateway/store/uses.py`)
    address text,
    user_agent text,
    acr text not null default 'password', -- how the person signed in (OpenID Connect Core, section 2)
    constraint sessions_token_digest_key unique (token_digest),
    constraint sessions_subject_fkey foreign key (subject) references users on delete cascade
);
create index sessions_subject on sessions (subject);
create index sessions_expires_at on sessions (expires_at);

-- The one place that says what a session's life hangs on besides its time. Deleting the sessions of who is shut out is
-- not enough, for one that is being written meanwhile is not seen: it would survive the new password, and come alive
-- when the person is enabled again. By its generation it is dead from the start.
create view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.acr, s.expires_at, u.subject, u.username, u.email, u.name,
    u.groups, u.created_at, u.disabled_at, u.generation as user_generation
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;
