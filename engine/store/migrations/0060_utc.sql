-- Days are days of UTC, as the engine's clock has them, whatever zone a database or a role is set to.

-- Runs at the end of every migration, so that functions of later files count so too.
create function syncdesk.count_in_utc() returns void
language plpgsql set search_path = '' as $$
declare
    f record;
begin
    for f in
        select p.oid::regprocedure as signature from pg_catalog.pg_proc p
        where p.pronamespace = 'public'::regnamespace and p.proname like 'syncdesk\_%'
            and not coalesce('TimeZone=UTC' = any (p.proconfig), false)
    loop
        execute format('alter function %s set timezone = ''UTC''', f.signature);
    end loop;
end $$;
