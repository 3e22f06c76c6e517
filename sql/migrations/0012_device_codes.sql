-- Devices that wait for a person to allow them something elsewhere (RFC 8628). What the person allows is an authorization
-- code under the device code's own digest (`codes`), so that what comes of it hangs on the same things, and ends as any.
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
