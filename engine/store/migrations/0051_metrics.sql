-- Jobs that ended are counted from totals that never shrink, no longer from hours that are packed and dropped.

-- Figures for /metrics that only the database knows.
create function public.syncdesk_metrics() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_build_object(
        'items', (select coalesce(jsonb_object_agg(state, n), '{}') from (
            select state, count(*) as n from syncdesk.items where removed_at is null group by state) s),
        'lag_s', (select extract(epoch from now() - min(last_success_at))::integer from syncdesk.items
            where removed_at is null and paused_at is null and state in ('healthy', 'expiring', 'bank_trouble')),
        'failed', (select coalesce(jsonb_object_agg(queue, n), '{}') from (
            select queue, count(*) as n from syncdesk.failed_jobs where state = 'failed' group by queue) f),
        'unprocessed', (select count(*) from syncdesk.inbox where state = 'received'),
        'wanted', (select count(*) from syncdesk.items where wanted > done),
        'unsent', (select count(*) from syncdesk.outbox where sent_at is null),
        'failing', public.syncdesk_failing(),
        'outcomes', (select coalesce(jsonb_agg(o), '[]') from syncdesk.job_outcomes o),
        'totals', (select coalesce(jsonb_agg(t), '[]') from syncdesk.job_totals t))
$$;
