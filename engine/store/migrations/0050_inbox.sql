-- The inbox for the operator: a list, one webhook whole, replay of what was stored, and news that none announced.

create index inbox_state on syncdesk.inbox (state, id desc);

-- One line of the list. A replay and a repeated delivery name the webhook that they repeat.
create function syncdesk.webhook_json(b syncdesk.inbox) returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('id', b.id::text, 'received_at', syncdesk.iso(b.received_at), 'state', b.state,
        'reason', b.reason, 'verified_by', b.verified_by, 'type', b.webhook_type, 'code', b.webhook_code,
        'item_id', b.item_id, 'plaid_item_id', b.plaid_item_id,
        'institution', (select institution_name from syncdesk.items where id = b.item_id),
        'processed_at', syncdesk.iso(b.processed_at), 'repeats', b.replay_of::text, 'correlation_id', b.correlation_id)
$$;

-- Newest first. p_q: part of a code, a bank's name, or an id of ours or Plaid's. Answers {webhooks, next}.
create function public.syncdesk_webhooks_list(
    p_state text default null, p_item uuid default null, p_q text default null, p_since timestamptz default null,
    p_until timestamptz default null, p_limit integer default 50, p_after text default null
) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '10s' as $$
declare
    cap integer := least(greatest(p_limit, 1), 500);
    like_ text := '%' || replace(replace(replace(p_q, '\', '\\'), '%', '\%'), '_', '\_') || '%';
    page_ bigint[];
begin
    select array_agg(b.id order by b.id desc) into page_ from (
        select b.id from syncdesk.inbox b
        where (p_state is null or b.state = p_state) and (p_item is null or b.item_id = p_item)
            and (p_since is null or b.received_at >= p_since) and (p_until is null or b.received_at < p_until)
            and (p_after is null or b.id < p_after::bigint)
            and (p_q is null or b.webhook_code ilike like_ or b.webhook_type ilike like_ or b.plaid_item_id = p_q
                or b.id::text = p_q or b.item_id in (
                    select id from syncdesk.items where institution_name ilike like_ or id::text = p_q))
        order by b.id desc limit cap + 1
    ) b;
    return jsonb_build_object(
        'webhooks', coalesce((select jsonb_agg(syncdesk.webhook_json(b) order by b.id desc)
            from syncdesk.inbox b where b.id = any(page_[1:cap])), '[]'),
        'next', case when coalesce(cardinality(page_), 0) > cap then page_[cap]::text end);
end $$;

-- One webhook with its body, and what repeats it.
create function public.syncdesk_webhook_show(p_inbox bigint) returns jsonb
language plpgsql stable security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    w syncdesk.inbox;
begin
    select * into w from syncdesk.inbox where id = p_inbox;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such webhook.'; end if;
    return jsonb_build_object('webhook', syncdesk.webhook_json(w), 'body', w.body, 'attempts', w.attempts,
        'repeated_by', coalesce((select jsonb_agg(syncdesk.webhook_json(b) order by b.id desc) from (
            select * from syncdesk.inbox where replay_of = w.id order by id desc limit 50) b), '[]'));
end $$;
create index inbox_repeats on syncdesk.inbox (replay_of) where replay_of is not null;

-- Whether a webhook belongs to the span; one that was replayed since does not any more.
create function syncdesk.webhook_replayable(
    b syncdesk.inbox, p_states text[], p_since timestamptz, p_until timestamptz
) returns boolean
language sql stable set search_path = '' as $$
    select b.state = any(coalesce(p_states, '{failed,unhandled}')) and b.state in ('failed', 'unhandled', 'processed')
        and (p_since is null or b.received_at >= p_since) and (p_until is null or b.received_at < p_until)
        and b.verified_by in ('jwt', 'hmac')
        and not exists (select from syncdesk.inbox r where r.replay_of = b.id and r.verified_by = 'replay'
            and r.state in ('received', 'processed'))
$$;

-- Stored bodies once more, each as a webhook of its own that says so: by ids, or all of some states received within a
-- span, oldest first. What nobody vouched for is never replayed. Answers {replayed: [{inbox_id, user_id, correlation}],
-- skipped: [{id, reason}], left}: how many of the span are still to be asked for.
create function public.syncdesk_webhooks_replay(
    p_ids jsonb default null, p_states jsonb default null, p_since timestamptz default null,
    p_until timestamptz default null, p_limit integer default 500
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '30s' as $$
declare
    ids_ bigint[] := (select array_agg(i::bigint) from jsonb_array_elements_text(p_ids) i);
    states_ text[] := (select array_agg(t) from jsonb_array_elements_text(p_states) t);
    made jsonb;
    skipped_ jsonb := '[]';
    left_ integer := 0;
begin
    if ids_ is not null then
        skipped_ := coalesce((select jsonb_agg(jsonb_build_object('id', n.id::text, 'reason', case
                when b.id is null then 'There is no such webhook.'
                when b.state = 'refused' then 'It was refused: nobody vouched for it.'
                else 'It waits to be processed already.' end) order by n.id)
            from unnest(ids_) n(id) left join syncdesk.inbox b on b.id = n.id
            where b.id is null or b.state in ('refused', 'received')), '[]');
    end if;
    with chosen as (
        select * from syncdesk.inbox b
        where case when ids_ is not null then b.id = any(ids_) and b.state not in ('refused', 'received')
            else syncdesk.webhook_replayable(b, states_, p_since, p_until) end
        order by b.id limit p_limit + 1 for no key update
    ), fresh as (
        insert into syncdesk.inbox (body, body_sha256, verified_by, webhook_type, webhook_code, plaid_item_id, item_id,
            user_id, correlation_id, state, replay_of)
        select body, body_sha256, 'replay', webhook_type, webhook_code, plaid_item_id, item_id, user_id,
            gen_random_uuid()::text, 'received', id
        from chosen order by id limit p_limit
        returning id, user_id, correlation_id
    )
    select coalesce(jsonb_agg(jsonb_build_object('inbox_id', id, 'user_id', user_id, 'correlation', correlation_id)
        order by id), '[]') into made from fresh;
    if ids_ is null then
        select count(*) into left_ from syncdesk.inbox b
            where syncdesk.webhook_replayable(b, states_, p_since, p_until);
    end if;
    return jsonb_build_object('replayed', made, 'skipped', skipped_, 'left', left_);
end $$;

-- The first page asks for these; most runs find nothing.
create index sync_runs_found on syncdesk.sync_runs (started_at)
    where state = 'done' and added + modified + removed > 0 and from_cursor is not null;

-- News of the last day that a run found by itself although the link's webhooks are known to come: none announced it
-- from an hour before the run until ten minutes after. {items, runs, last_at}
create function syncdesk.unannounced() returns jsonb
language sql stable set search_path = '' as $$
    select jsonb_build_object('items', count(distinct r.item_id), 'runs', count(*), 'last_at', syncdesk.iso(max(r.finished_at)))
    from syncdesk.sync_runs r
    where r.state = 'done' and r.added + r.modified + r.removed > 0 and r.from_cursor is not null
        and r.trigger in ('schedule', 'cron', 'probe', 'manual')
        and r.started_at > now() - interval '24 hours' and r.finished_at < now() - interval '10 minutes'
        and exists (select from syncdesk.inbox b where b.item_id = r.item_id and b.received_at < r.started_at
            and b.verified_by in ('jwt', 'hmac') and b.webhook_type = 'TRANSACTIONS')
        and not exists (select from syncdesk.inbox b where b.item_id = r.item_id and b.webhook_type = 'TRANSACTIONS'
            and b.verified_by in ('jwt', 'hmac')
            and b.received_at between r.started_at - interval '1 hour' and r.finished_at + interval '10 minutes')
$$;
