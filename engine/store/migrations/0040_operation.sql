-- Operation: named leases, the schedule, settings kept in the database, audit, notices, retention.

create index schedule_runs_running on syncdesk.schedule_runs (schedule_id) where outcome = 'running';
create index audit_list on syncdesk.audit (id desc);
create index notices_list on syncdesk.notices (id desc);

-- ---------------------------------------------------------------- named leases

-- Take or renew a lease. {"held": bool, "owner", "fence", "expires_at"} of whoever holds it now.
create function public.syncdesk_named_lease_claim(p_name text, p_owner text, p_ttl_s integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    held syncdesk.named_leases;
begin
    insert into syncdesk.named_leases as l (name, owner, fence, expires_at)
        values (p_name, p_owner, nextval('syncdesk.fences'), clock_timestamp() + make_interval(secs => p_ttl_s))
    on conflict (name) do update set
        owner = excluded.owner,
        fence = case when l.owner = excluded.owner then l.fence else excluded.fence end,
        expires_at = excluded.expires_at
        where l.owner = excluded.owner or l.expires_at < clock_timestamp()
            -- Of a clock that was ahead.
            or l.expires_at > clock_timestamp() + 2 * make_interval(secs => p_ttl_s);
    select * into held from syncdesk.named_leases where name = p_name;
    return jsonb_build_object('held', held.owner = p_owner, 'owner', held.owner, 'fence', held.fence,
        'expires_at', syncdesk.iso(held.expires_at));
end $$;

create function public.syncdesk_named_lease_release(p_name text, p_owner text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    delete from syncdesk.named_leases where name = p_name and owner = p_owner;
    return jsonb_build_object('released', found);
end $$;

-- ---------------------------------------------------------------- schedule

-- What the program brings: makes the row, or renews label and words; a person's edits stay.
create function public.syncdesk_schedule_define(p_id text, p_label text, p_trigger jsonb, p_words text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    insert into syncdesk.schedule as s (id, label, trigger, words) values (p_id, p_label, p_trigger, p_words)
    on conflict (id) do update set
        label = excluded.label,
        trigger = case when s.edited_at is null then excluded.trigger else s.trigger end,
        words = case when s.edited_at is null then excluded.words else s.words end;
    return jsonb_build_object('id', p_id);
end $$;

-- What a person changes; null leaves a part as it is. p_run_now asks for one run at the scheduler's next look.
create function public.syncdesk_schedule_put(
    p_id text, p_trigger jsonb default null, p_paused boolean default null, p_run_now boolean default null,
    p_words text default null, p_who text default ''
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.schedule s set
        trigger = coalesce(p_trigger, s.trigger),
        edited_at = case when p_trigger is null then s.edited_at else clock_timestamp() end,
        words = coalesce(p_words, s.words),
        paused_at = case when p_paused is null then s.paused_at
            when p_paused then coalesce(s.paused_at, clock_timestamp()) end,
        paused_by = case when p_paused is null then s.paused_by when p_paused then p_who end,
        run_now_at = case when p_run_now then coalesce(s.run_now_at, clock_timestamp()) else s.run_now_at end,
        updated_at = clock_timestamp()
    where s.id = p_id;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such scheduled job.';
    end if;
    return jsonb_build_object('id', p_id);
end $$;

-- The scheduler's look, once a second: renews its lease, and tells what it must follow.
create function public.syncdesk_schedule_poll(p_owner text, p_ttl_s integer) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    lease jsonb := public.syncdesk_named_lease_claim('scheduler', p_owner, p_ttl_s);
begin
    return lease || jsonb_build_object('now', syncdesk.iso(clock_timestamp()), 'jobs', coalesce((
        select jsonb_agg(jsonb_build_object('id', s.id, 'trigger', s.trigger, 'paused', s.paused_at is not null,
            'run_now', s.run_now_at is not null, 'last_started_at', (
                select syncdesk.iso(max(r.started_at)) from syncdesk.schedule_runs r where r.schedule_id = s.id
                    and not r.by_person and r.outcome <> 'missed'
            )) order by s.id)
        from syncdesk.schedule s), '[]'));
end $$;

-- When a job runs next: {"next_run_at": iso or null, "next_five": [iso, …], "words"} by id.
create function public.syncdesk_schedule_next(p_next jsonb) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.schedule s set
        next_run_at = (n.value ->> 'next_run_at')::timestamptz,
        next_five = coalesce(n.value -> 'next_five', '[]'),
        words = coalesce(n.value ->> 'words', s.words)
    from jsonb_each(p_next) n where s.id = n.key;
    return jsonb_build_object('updated', true);
end $$;

-- The start of a run (p_run null: returns its id) and its end. A run by a person answers the click that asked for it.
create function public.syncdesk_schedule_ran(
    p_id text, p_outcome text, p_run bigint default null, p_duration_ms integer default null, p_text text default '',
    p_by_person boolean default false, p_correlation text default ''
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    run_ bigint := p_run;
begin
    if run_ is null then
        insert into syncdesk.schedule_runs (schedule_id, outcome, duration_ms, by_person, correlation_id, text)
            values (p_id, p_outcome, p_duration_ms, p_by_person, p_correlation, p_text) returning id into run_;
        if p_by_person then
            update syncdesk.schedule set run_now_at = null where id = p_id;
        end if;
    else
        update syncdesk.schedule_runs set outcome = p_outcome, duration_ms = p_duration_ms, text = p_text
            where id = run_;
    end if;
    return jsonb_build_object('run', run_);
exception when foreign_key_violation then
    raise exception using errcode = 'SD404', message = 'There is no such scheduled job.';
end $$;

-- A scheduler that took over: what its predecessor had begun will not end any more.
create function public.syncdesk_schedule_interrupted(p_fence bigint) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    ended bigint;
begin
    if not exists (select from syncdesk.named_leases where name = 'scheduler' and fence = p_fence) then
        raise exception using errcode = 'SD409', message = 'Another scheduler took over.';
    end if;
    update syncdesk.schedule_runs set outcome = 'failed', text = 'The scheduler ended while this ran.'
        where outcome = 'running';
    get diagnostics ended = row_count;
    return jsonb_build_object('interrupted', ended);
end $$;

create function syncdesk.schedule_run_json(r syncdesk.schedule_runs) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('at', syncdesk.iso(r.started_at), 'duration_ms', r.duration_ms,
        'outcome', r.outcome, 'text', r.text)
$$;

-- In the shape of engine.api.types_operation.Schedule.
create function public.syncdesk_schedule_list() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select jsonb_build_object(
        'active', exists (select from syncdesk.named_leases where name = 'scheduler' and expires_at > clock_timestamp()),
        'holder', (select owner from syncdesk.named_leases where name = 'scheduler' and expires_at > clock_timestamp()),
        'jobs', coalesce((select jsonb_agg(jsonb_build_object(
            'id', s.id, 'label', s.label, 'words', s.words, 'trigger', s.trigger,
            'paused', s.paused_at is not null, 'paused_by', s.paused_by,
            'next_run_at', case when s.paused_at is null then syncdesk.iso(s.next_run_at) end,
            'next_five', case when s.paused_at is null then s.next_five else '[]' end,
            'last', h.runs -> 0, 'history', coalesce(h.runs, '[]')) order by s.id)
        from syncdesk.schedule s cross join lateral (
            select jsonb_agg(syncdesk.schedule_run_json(r) order by r.id desc) as runs from (
                select * from syncdesk.schedule_runs where schedule_id = s.id order by id desc limit 20
            ) r
        ) h), '[]'))
$$;

-- ---------------------------------------------------------------- settings

-- One setting's value, or with p_key null all of them as one object.
create function public.syncdesk_settings_get(p_key text default null) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    select case when p_key is null
        then coalesce((select jsonb_object_agg(key, value) from syncdesk.settings), '{}')
        else (select value from syncdesk.settings where key = p_key) end
$$;

create function public.syncdesk_setting_put(p_key text, p_value jsonb, p_who text default '') returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    if p_value is null then
        delete from syncdesk.settings where key = p_key;
    else
        insert into syncdesk.settings (key, value, updated_by) values (p_key, p_value, p_who)
        on conflict (key) do update set value = excluded.value, updated_by = excluded.updated_by,
            updated_at = clock_timestamp();
    end if;
    return jsonb_build_object('key', p_key);
end $$;

-- ---------------------------------------------------------------- audit

create function public.syncdesk_audit_add(
    p_who text, p_action text, p_target text default '', p_reason text default '', p_result text default '',
    p_correlation text default '', p_detail jsonb default '{}'
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    made bigint;
begin
    insert into syncdesk.audit (who, action, target, reason, result, correlation_id, detail) values (p_who, p_action,
        coalesce(p_target, ''), coalesce(p_reason, ''), coalesce(p_result, ''), coalesce(p_correlation, ''),
        coalesce(p_detail, '{}')) returning id into made;
    return jsonb_build_object('id', made);
end $$;

create function public.syncdesk_audit_list(p_limit integer default 50, p_after text default null) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with page as (
        select * from syncdesk.audit where p_after is null or id < p_after::bigint
        order by id desc limit least(greatest(p_limit, 1), 500)
    )
    select jsonb_build_object('entries', coalesce(jsonb_agg(jsonb_build_object('id', id, 'at', syncdesk.iso(at),
        'who', who, 'action', action, 'target', target, 'reason', reason, 'result', result,
        'correlation_id', correlation_id, 'detail', detail) order by id desc), '[]'),
        'next', case when count(*) = least(greatest(p_limit, 1), 500) then min(id)::text end)
    from page
$$;

-- ---------------------------------------------------------------- outbox and notices

create function public.syncdesk_outbox_add(
    p_kind text, p_user uuid default null, p_item uuid default null, p_correlation text default '',
    p_payload jsonb default '{}', p_channel text default 'console'
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    made bigint;
begin
    insert into syncdesk.outbox (kind, user_id, item_id, correlation_id, payload, channel) values (p_kind, p_user,
        p_item, coalesce(p_correlation, ''), coalesce(p_payload, '{}'), coalesce(p_channel, 'console'))
    returning id into made;
    return jsonb_build_object('id', made);
end $$;

create function public.syncdesk_outbox_get(p_id bigint) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    found_ jsonb;
begin
    select jsonb_build_object('id', o.id, 'kind', o.kind, 'user_id', o.user_id, 'item_id', o.item_id,
        'correlation_id', o.correlation_id, 'payload', o.payload, 'channel', o.channel,
        'created_at', syncdesk.iso(o.created_at), 'sent_at', syncdesk.iso(o.sent_at), 'attempts', o.attempts,
        'institution', i.institution_name, 'label', i.label)
    into found_ from syncdesk.outbox o left join syncdesk.items i on i.id = o.item_id where o.id = p_id;
    if found_ is null then
        raise exception using errcode = 'SD404', message = 'There is no such notification.';
    end if;
    return found_;
end $$;

-- The notice and "sent" in one commit, so that a job that starts twice tells the person once.
create function public.syncdesk_notice_deliver(
    p_outbox bigint, p_tone text, p_title text, p_sentence text, p_target text default null
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    kind_ text;
    made bigint;
begin
    update syncdesk.outbox set sent_at = coalesce(sent_at, clock_timestamp()), attempts = attempts + 1
        where id = p_outbox returning kind into kind_;
    if not found then
        raise exception using errcode = 'SD404', message = 'There is no such notification.';
    end if;
    insert into syncdesk.notices (outbox_id, kind, tone, title, sentence, target)
        values (p_outbox, kind_, p_tone, p_title, p_sentence, p_target)
    on conflict (outbox_id) do nothing returning id into made;
    return jsonb_build_object('notice', made, 'new', made is not null);
end $$;

-- In the shape of engine.api.types_operation.Notices, newest first.
create function public.syncdesk_notices_list(p_limit integer default 50, p_after text default null) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '5s' as $$
    with page as (
        select * from syncdesk.notices where p_after is null or id < p_after::bigint
        order by id desc limit least(greatest(p_limit, 1), 500)
    )
    select jsonb_build_object('notices', coalesce(jsonb_agg(jsonb_build_object('id', id::text,
        'at', syncdesk.iso(at), 'kind', kind, 'tone', tone, 'title', title, 'sentence', sentence, 'target', target,
        'read', read_at is not null) order by id desc), '[]'),
        'next', case when count(*) = least(greatest(p_limit, 1), 500) then min(id)::text end)
    from page
$$;

-- Mark notices as read: those named, or all up to now.
create function public.syncdesk_notices_read(p_ids jsonb default null) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    touched bigint;
begin
    update syncdesk.notices set read_at = clock_timestamp() where read_at is null
        and (p_ids is null or id::text in (select jsonb_array_elements_text(p_ids)));
    get diagnostics touched = row_count;
    return jsonb_build_object('read', touched);
end $$;

-- ---------------------------------------------------------------- retention

-- Trim what only explains the past. What a person's data consists of is never touched. At most p_limit rows a
-- table and call, so that no lock is held long; "more" says that another call is due.
create function public.syncdesk_retention(
    p_runs_days integer default 90, p_inbox_days integer default 30, p_notices_days integer default 30,
    p_stats_days integer default 400, p_audit_days integer default 400, p_limit integer default 5000
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '60s' as $$
declare
    counts jsonb := '{}';
    n bigint;
    most bigint := 0;
    step record;
begin
    for step in select * from (values
        ('runs', 'syncdesk.sync_runs', 'finished_at', p_runs_days, 'state <> ''running'''),
        ('inbox', 'syncdesk.inbox', 'received_at', p_inbox_days, 'state <> ''received'''),
        ('outbox', 'syncdesk.outbox', 'sent_at', p_notices_days, 'true'),
        ('notices', 'syncdesk.notices', 'at', p_notices_days, 'true'),
        ('minutes', 'syncdesk.job_minutes', 'minute', 8, 'true'),
        ('hours', 'syncdesk.job_stats', 'hour', p_stats_days, 'true'),
        ('group_hours', 'syncdesk.failure_group_hours', 'hour', p_stats_days, 'true'),
        ('schedule_runs', 'syncdesk.schedule_runs', 'started_at', p_runs_days, 'outcome <> ''running'''),
        ('audit', 'syncdesk.audit', 'at', p_audit_days, 'true'),
        ('skipped', 'syncdesk.skipped_rows', 'resolved_at', p_runs_days, 'true')
    ) as t (label, name, stamp, days, also) loop
        execute format('delete from %s where ctid = any (array(select ctid from %s where %I < now() - make_interval('
            'days => $1) and %s limit $2))', step.name, step.name, step.stamp, step.also) using step.days, p_limit;
        get diagnostics n = row_count;
        counts := counts || jsonb_build_object(step.label, n);
        most := greatest(most, n);
    end loop;
    return jsonb_build_object('deleted', counts, 'more', most >= p_limit);
end $$;
