-- Who can sign in, and the browsers that have.

create table users (
    subject text primary key,
    username text not null,
    email text,
    name text,
    password_hash text not null,
    -- Raised to end everything that was issued for this person; what was issued remembers the number it saw.
    generation integer not null default 0,
    created_at timestamptz not null,
    disabled_at timestamptz,
    -- No '@' in a user name: it can never read like somebody else's e-mail address.
    constraint users_username_check check (username ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    constraint users_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    -- A plain password can never be stored by mistake.
    constraint users_password_hash_check check (password_hash like '$argon2id$%')
);
create unique index users_username_key on users (lower(username));
create unique index users_email_key on users (lower(email));

create table sessions (
    session_id text primary key,
    token_digest bytea not null,
    subject text not null,
    signed_in_at timestamptz not null,
    expires_at timestamptz not null,
    constraint sessions_token_digest_key unique (token_digest),
    constraint sessions_subject_fkey foreign key (subject) references users on delete cascade
);
create index sessions_subject on sessions (subject);
create index sessions_expires_at on sessions (expires_at);

-- Wrong passwords and client secrets in a row. Accounts are digests: people type passwords where a name belongs.
create table failed_attempts (
    account bytea not null,
    browser bytea not null,
    failures integer not null,
    last_failed_at timestamptz not null,
    constraint failed_attempts_pkey primary key (account, browser)
);
create index failed_attempts_last_failed_at on failed_attempts (last_failed_at);
