-- A clock that was ahead for a while and is put right leaves times in the future. Whoever asks "is it long ago"
-- must not take them for fresh until the clock has come that far: the backup sync would look away for as long.

create or replace function public.syncdesk_items_want_stale(p_age_s integer, p_limit integer, p_correlation text)
returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    hints jsonb;
    trouble boolean := exists (select from syncdesk.settings where key = 'install_trouble');
    at timestamptz := clock_timestamp();
    since timestamptz := at - p_age_s * interval '1 second';
begin
    select coalesce(jsonb_agg(w order by n), '[]') into hints from (
        select n, syncdesk.want(id, case when trouble then 'probe' else 'schedule' end, p_correlation, 'medium') as w
        from (
            select id, row_number() over () as n from (
                select id from syncdesk.items
                where removed_at is null and paused_at is null and state not in ('needs_you', 'error', 'removed')
                    and (last_success_at is null or last_success_at <= since or last_success_at > at)
                    -- A wish that still waits is not raised again.
                    and (wanted = done or wanted_at <= since or wanted_at > at)
                -- Probes take turns: an item with trouble of its own could never end that of the install.
                order by case when trouble then last_attempt_at else last_success_at end nulls first, id
                limit case when trouble then 1 else p_limit end
                for update skip locked
            ) oldest
        ) numbered
    ) wishes where w is not null;
    return jsonb_build_object('hints', hints);
end $$;
