-- Who can sign in.

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
    email_verified boolean not null default false, -- the operator says so; another address is not
    -- What else applications may learn of who signs in, by the claim's name (OpenID Connect Core 1.0, section 5.1).
    claims jsonb not null default '{}',
    groups text[] not null default '{}',
    updated_at timestamptz, -- null: never since it was created
    -- No '@' in a user name: it can never read like somebody else's e-mail address.
    constraint users_username_check check (username ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    constraint users_email_check check (email ~ '^[^@[:space:]]+@[^@[:space:]]+$'),
    constraint users_email_verified_check check (email is not null or not email_verified),
    constraint users_claims_check check (jsonb_typeof(claims) = 'object'),
    -- A plain password can never be stored by mistake.
    constraint users_password_hash_check check (password_hash like '$argon2id$%')
);
-- Names fold as the program folds them: small letters for A to Z and no others, whatever the database's locale. With İ
-- as i, somebody else's guesses would count for ida's account here and for another name in the program.
create unique index users_username_key on users (lower(username collate "C"));
create unique index users_email_key on users (lower(email collate "C"));

-- What clients of one sector know a person by, where it is not the subject itself (OpenID Connect Core, section 8.1).
create table pairwise_subjects (
    sector text not null,
    subject text not null,
    known_as text not null,
    constraint pairwise_subjects_pkey primary key (sector, subject),
    constraint pairwise_subjects_known_as_key unique (known_as),
    constraint pairwise_subjects_subject_fkey foreign key (subject) references users on delete cascade
);
create index pairwise_subjects_subject on pairwise_subjects (subject);

-- Wrong passwords and client secrets in a row. Accounts are digests: people type passwords where a name belongs.
create table failed_attempts (
    account bytea not null,
    browser bytea not null,
    failures integer not null,
    last_failed_at timestamptz not null,
    constraint failed_attempts_pkey primary key (account, browser)
);
create index failed_attempts_last_failed_at on failed_attempts (last_failed_at);
