-- When something was last used, to some minutes: what an operator asks who looks for access that nobody needs. No call
-- writes it; the workers do, now and then, for all calls since (`gateway/store/uses.py`).
alter table access_tokens add column last_used_at timestamptz;
alter table grants add column last_used_at timestamptz;
alter table sessions
    add column last_used_at timestamptz,
    add column address text,
    add column user_agent text;

create table scope_uses (
    client_id text not null,
    scope text not null,
    used_at timestamptz not null,
    constraint scope_uses_pkey primary key (client_id, scope),
    constraint scope_uses_client_id_fkey foreign key (client_id) references clients on delete cascade
);
