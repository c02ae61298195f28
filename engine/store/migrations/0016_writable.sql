-- Whether the database takes writes, asked while it is in trouble, so that work starts again only when it can end.

create table syncdesk.probe (
    one boolean primary key default true check (one),
    at  timestamptz not null
);
-- Room on the disk is asked of a table that writes no log: a log that cannot grow ends the whole server.
create unlogged table syncdesk.probe_room (filler character(1000) not null);

-- Really writes: a row through the log, and four megabytes of new pages, as much as a page of transactions with its
-- history and indexes may need, given back at once. A row alone would say too little: it fits into a page and into a
-- piece of the log that are there already. Raises what any write would raise.
create function public.syncdesk_writable() returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' set lock_timeout = '5s' as $$
begin
    insert into syncdesk.probe (at) values (clock_timestamp()) on conflict (one) do update set at = excluded.at;
    -- A new file each time: pages that an earlier question left free would answer for the disk.
    truncate syncdesk.probe_room;
    insert into syncdesk.probe_room (filler) select '' from generate_series(1, 4000);
    truncate syncdesk.probe_room;
    return '{}';
end $$;
