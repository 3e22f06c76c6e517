-- Names fold as the program folds them, and failures of one minute and account are one event.

-- Small letters for A to Z and no others, whatever the database's locale: with İ as i, somebody else's guesses would
-- count for ida's account here and for another name in the program.
drop index users_username_key;
drop index users_email_key;
create unique index users_username_key on users (lower(username collate "C"));
create unique index users_email_key on users (lower(email collate "C"));

-- The minute that an event counts failures of; null for an event that stands for one act. Anybody can fail, so that an
-- event each would let strangers fill the table.
alter table events add column minute timestamptz;
create unique index events_minute on events (minute, kind, subject, client_id) nulls not distinct
where minute is not null;
