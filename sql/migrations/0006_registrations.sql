-- Clients that were registered by nobody who answers for them (RFC 7591): what they said of themselves, the token by
-- which they manage that (RFC 7592), and how long they stay without being used.

create table registrations (
    client_id text primary key,
    token_digest bytea, -- of the registration access token
    -- What has no column in `clients`, as the program writes and reads it (`gateway/oauth/registration.py`).
    metadata jsonb not null,
    idle interval not null, -- how long it stays after its last use, to a day
    expires_at timestamptz not null,
    constraint registrations_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index registrations_expires_at on registrations (expires_at);

-- What was registered or changed lately, by where it came from: a limit that deleting what was registered does not
-- lift.
create table registration_attempts (
    place text not null,
    at timestamptz not null
);
create index registration_attempts_place on registration_attempts (place, at);
create index registration_attempts_at on registration_attempts (at);

-- Initial access tokens (RFC 7591, section 1.2), which an operator gives to whoever may register.
create table registration_tokens (
    digest bytea primary key,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    uses_left integer not null,
    constraint registration_tokens_uses_left_check check (uses_left >= 0)
);
create index registration_tokens_expires_at on registration_tokens (expires_at);
