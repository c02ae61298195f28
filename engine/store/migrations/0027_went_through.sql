-- What a failed job was for may go through later, by a run that something else asked for.

-- When that was for the first time, and by which job where one is known; null while it has not, or is not known any
-- more. The failed job stays as it is: nothing but a person's hand takes it from the list.
create function public.syncdesk_job_went_through(p_job_id text) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    f syncdesk.failed_jobs;
    target_ text;
    at_ timestamptz;
    job_ text;
begin
    select * into f from syncdesk.failed_jobs where job_id = p_job_id;
    target_ := syncdesk.failed_target(f);
    if target_ = '' then return null; end if;
    if f.queue = 'transactions' then
        select finished_at, job_id into at_, job_ from syncdesk.sync_runs
            where item_id = f.item_id and state = 'done' and started_at > f.failed_at order by started_at limit 1;
    elsif f.queue = 'webhooks' then
        select processed_at into at_ from syncdesk.inbox
            where id = target_::bigint and state = 'processed' and reason is distinct from 'cancelled'
                and processed_at > f.failed_at;
    else
        select sent_at into at_ from syncdesk.outbox where id = target_::bigint and sent_at > f.failed_at;
    end if;
    return case when at_ is not null then jsonb_build_object('at', syncdesk.iso(at_), 'job_id', job_) end;
end $$;
