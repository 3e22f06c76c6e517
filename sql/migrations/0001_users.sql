-- Who can sign in, and the browsers that have.

create table users (
    subject text primary key,
    username text not null,
    email text,
    name text,
    password_hash text not null,
    -- Raised to end everything that was issued for this person; what was issued remembers the number it saw.
    generation integer not null default 0,
    -- Raised to end this person's sessions: by a new password, or by being disabled.
    session_generation integer not null default 0,
    created_at timestamptz not null,
    disabled_at timestamptz,
    -- No '@' in a user name: it can never read like somebody else's e-mail address.
    constraint users_username_check check (username ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    constraint users_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    -- A plain password can never be stored by mistake.
    constraint users_password_hash_check check (password_hash like '$argon2id$%')
);
-- Names fold as the program folds them: small letters for A to Z and no others, whatever the database's locale. With İ
-- as i, somebody else's guesses would count for ida's account here and for another name in the program.
create unique index users_username_key on users (lower(username collate "C"));
create unique index users_email_key on users (lower(email collate "C"));

create table sessions (
    session_id text primary key,
    token_digest bytea not null,
    subject text not null,
    generation integer not null, -- the person's `session_generation` when it began
    signed_in_at timestamptz not null,
    expires_at timestamptz not null,
    constraint sessions_token_digest_key unique (token_digest),
    constraint sessions_subject_fkey foreign key (subject) references users on delete cascade
);
create index sessions_subject on sessions (subject);
create index sessions_expires_at on sessions (expires_at);

-- The one place that says what a session's life hangs on besides its time. Deleting the sessions of who is shut out is
-- not enough, for one that is being written meanwhile is not seen: it would survive the new password, and come alive
-- when the person is enabled again. By its generation it is dead from the start.
create view living_sessions as
select s.session_id, s.token_digest, s.signed_in_at, s.expires_at, u.subject, u.username, u.email, u.name, u.created_at,
    u.disabled_at, u.generation as user_generation
from sessions s
join users u on u.subject = s.subject
where u.disabled_at is null and u.session_generation = s.generation;

-- Wrong passwords and client secrets in a row. Accounts are digests: people type passwords where a name belongs.
create table failed_attempts (
    account bytea not null,
    browser bytea not null,
    failures integer not null,
    last_failed_at timestamptz not null,
    constraint failed_attempts_pkey primary key (account, browser)
);
create index failed_attempts_last_failed_at on failed_attempts (last_failed_at);
