-- Requests of clients that wait for a person's answer: pushed ones, pages that are open, and devices.

-- Authorization requests that a client pushed (RFC 9126), until a person has answered them. The first browser that
-- opens one has it (`browser`, the digest of its secret), and has longer for the answer; whoever answers spends it in
-- the same transaction, so that no request brings two codes.
create table pushed_requests (
    digest bytea primary key, -- of the reference, the only form in which it is known here
    client_id text not null,
    request jsonb not null, -- as in `flows`, but as the client named its scopes and resources
    created_at timestamptz not null,
    expires_at timestamptz not null,
    browser bytea,
    spent_at timestamptz,
    constraint pushed_requests_client_id_fkey foreign key (client_id) references clients on delete cascade
);
create index pushed_requests_client_id on pushed_requests (client_id);
create index pushed_requests_expires_at on pushed_requests (expires_at);

-- A flow belongs to a person, not to one session: who signs in anew, in another tab say, goes on where they were. What
-- was answered stays with the flow, so that a second click on the same button gets the same answer.
create table flows (
    flow_id text primary key,
    subject text not null,
    client_id text not null,
    -- The authorization request whole, as the program writes and reads it (`gateway/oauth/authorize.py`). Another
    -- parameter of requests is another member, and no change of the schema. So in `codes`.
    request jsonb not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    decision text, -- null while the person's answer is awaited
    allowed text[], -- which of the scopes asked for; set with the decision "granted"
    code_digest bytea,
    sealed_code bytea, -- worth something for as long as the code is
    constraint flows_subject_fkey foreign key (subject) references users on delete cascade,
    constraint flows_client_id_fkey foreign key (client_id) references clients on delete cascade,
    constraint flows_decision_check check (decision in ('granted', 'denied')),
    constraint flows_allowed_check check ((decision is not distinct from 'granted') = (allowed is not null))
);
create index flows_subject on flows (subject);
create index flows_client_id on flows (client_id);
create index flows_expires_at on flows (expires_at);

-- Devices that wait for a person to allow them something elsewhere (RFC 8628). What the person allows is an
-- authorization code under the device code's own digest (`codes`), so that what comes of it hangs on the same things,
-- and ends as any.
create table device_codes (
    digest bytea primary key,
    user_code bytea not null, -- keyed, since all that there are can be tried
    client_id text not null,
    scopes text[] not null,
    resource text[] not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    pace integer not null, -- the least seconds between two questions of the device
    polled_at timestamptz,
    decision text, -- null while the person's answer is awaited
    subject text, -- whose answer it was
    constraint device_codes_user_code_key unique (user_code),
    constraint device_codes_client_id_fkey foreign key (client_id) references clients on delete cascade,
    constraint device_codes_subject_fkey foreign key (subject) references users on delete cascade,
    constraint device_codes_decision_check check (decision in ('granted', 'denied')),
    constraint device_codes_subject_check check ((decision is null) = (subject is null))
);
create index device_codes_client_id on device_codes (client_id);
create index device_codes_subject on device_codes (subject) where subject is not null;
create index device_codes_expires_at on device_codes (expires_at);
