-- What may be asked for.

create table scopes (
    name text not null,
    description text not null,
    created_at timestamptz not null,
    constraint scopes_pkey primary key (name),
    constraint scopes_name_check check (name ~ '^[\x21\x23-\x5b\x5d-\x7e]+$'), -- RFC 6749, section 3.3
    constraint scopes_description_check check (description <> '')
);

-- When a client last used a scope, to some minutes: what an operator asks who looks for access that nobody needs. No
-- call writes it; the workers do, now and then, for all calls since (`gateway/store/uses.py`).
create table scope_uses (
    client_id text not null,
    scope text not null,
    used_at timestamptz not null,
    constraint scope_uses_pkey primary key (client_id, scope),
    constraint scope_uses_client_id_fkey foreign key (client_id) references clients on delete cascade
);
