-- The inbox: every delivery kept, its wish raised in the same commit where it only says "there is news".

create index inbox_refused on syncdesk.inbox (id) where state in ('refused', 'duplicate');

-- A body for keeping: the public tokens of a sign-in, which stand for a bank until they are exchanged, left out. Also of
-- one that was cut or is no JSON; body_sha256 stays that of the body as it came.
create function syncdesk.without_tokens(p_body text) returns text
language sql immutable set search_path = '' as $$
    select regexp_replace(regexp_replace(p_body,
        '("public_tokens"\s*:\s*)\[[^]]*(\]|$)', '\1[]', 'g'),
        '("public_token"\s*:\s*)"[^"]*("|$)', '\1null', 'g')
$$;

-- p_news: the code only means that there is something to fetch. Answers what to hint after the answer
-- to Plaid: {inbox_id, duplicate, raised: {item_id, user_id, institution, lane} | null, item_id, user_id}.
create function public.syncdesk_webhook_store(
    p_body text, p_sha256 text, p_verified_by text, p_signature_id text, p_type text, p_code text,
    p_plaid_item_id text, p_news boolean, p_correlation text, p_reason text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    inbox_ bigint;
    item_ uuid;
    user_ uuid;
    raised jsonb;
    state_ text := 'received';
    why text := p_reason;
begin
    if p_reason is not null then
        return syncdesk.webhook_refused(p_body, p_sha256, p_verified_by, p_type, p_code, p_correlation, p_reason);
    end if;
    if p_plaid_item_id is not null then
        select id, user_id into item_, user_ from syncdesk.items where plaid_item_id = p_plaid_item_id;
    end if;
    if p_news then
        state_ := case when item_ is null then 'unhandled' else 'processed' end;
        if item_ is null then why := 'no such bank link here'; end if;
    end if;
    insert into syncdesk.inbox (body, body_sha256, verified_by, signature_id, webhook_type, webhook_code,
        plaid_item_id, item_id, user_id, correlation_id, state, reason, processed_at)
    values (p_body, p_sha256, p_verified_by, p_signature_id, p_type, p_code, p_plaid_item_id, item_, user_,
        p_correlation, state_, why, case when state_ <> 'received' then clock_timestamp() end)
    on conflict (signature_id) where signature_id is not null do nothing
    returning id into inbox_;
    if inbox_ is null then
        return syncdesk.webhook_again(p_body, p_sha256, p_verified_by, p_signature_id, p_type, p_code, p_correlation);
    end if;
    if p_news and item_ is not null then
        begin
            -- The commit of a long run holds the item for seconds; Plaid's answer must not wait for that.
            perform set_config('lock_timeout', '1s', true);
            raised := syncdesk.want(item_, 'webhook', p_correlation, 'high');
        exception when lock_not_available then
            state_ := 'received'; -- the webhook queue raises the wish
            update syncdesk.inbox set state = state_, processed_at = null where id = inbox_;
        end;
    end if;
    return jsonb_build_object('inbox_id', inbox_, 'duplicate', false, 'raised', raised, 'item_id', item_,
        'user_id', user_, 'state', state_);
end $$;

-- A delivery that came before: kept as such, without effect.
create function syncdesk.webhook_again(
    p_body text, p_sha256 text, p_verified_by text, p_signature_id text, p_type text, p_code text, p_correlation text
) returns jsonb
language plpgsql set search_path = '' as $$
declare
    first_ syncdesk.inbox;
    inbox_ bigint;
begin
    select * into first_ from syncdesk.inbox where signature_id = p_signature_id;
    insert into syncdesk.inbox (body, body_sha256, verified_by, webhook_type, webhook_code, plaid_item_id, item_id,
        user_id, correlation_id, state, replay_of, processed_at)
    values (syncdesk.without_tokens(p_body), p_sha256, p_verified_by, p_type, p_code, first_.plaid_item_id, first_.item_id, first_.user_id,
        p_correlation, 'duplicate', first_.id, clock_timestamp())
    returning id into inbox_;
    perform syncdesk.webhook_trim('duplicate');
    return jsonb_build_object('inbox_id', inbox_, 'duplicate', true, 'raised', null, 'item_id', first_.item_id,
        'user_id', first_.user_id, 'state', 'duplicate');
end $$;

-- Anybody can send these, so they are cut and only the newest are kept.
create function syncdesk.webhook_refused(
    p_body text, p_sha256 text, p_verified_by text, p_type text, p_code text, p_correlation text, p_reason text
) returns jsonb
language plpgsql set search_path = '' as $$
declare
    inbox_ bigint;
begin
    insert into syncdesk.inbox (body, body_sha256, verified_by, webhook_type, webhook_code, correlation_id, state,
        reason, processed_at)
    values (left(syncdesk.without_tokens(p_body), 2000), p_sha256, p_verified_by, left(p_type, 100), left(p_code, 100), p_correlation,
        'refused', left(p_reason, 200), clock_timestamp())
    returning id into inbox_;
    perform syncdesk.webhook_trim('refused');
    return jsonb_build_object('inbox_id', inbox_, 'duplicate', false, 'raised', null, 'item_id', null,
        'user_id', null, 'state', 'refused');
end $$;

create function syncdesk.webhook_trim(p_state text) returns void
language sql set search_path = '' as $$
    delete from syncdesk.inbox where state = p_state and state in ('refused', 'duplicate') and id <= (
        select id from syncdesk.inbox where state = p_state and state in ('refused', 'duplicate')
        order by id desc offset 1000 limit 1)
$$;

create function public.syncdesk_webhook_get(p_inbox bigint) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
declare
    w syncdesk.inbox;
begin
    update syncdesk.inbox set attempts = attempts + 1 where id = p_inbox returning * into w;
    if not found then raise exception using errcode = 'SD404', message = 'There is no such webhook.'; end if;
    return jsonb_build_object('inbox_id', w.id, 'state', w.state, 'body', w.body, 'type', w.webhook_type,
        'code', w.webhook_code, 'plaid_item_id', w.plaid_item_id, 'user_id', w.user_id,
        -- Linked between delivery and now.
        'item_id', coalesce(w.item_id, (select id from syncdesk.items where plaid_item_id = w.plaid_item_id)),
        'correlation_id', w.correlation_id, 'received_at', syncdesk.iso(w.received_at));
end $$;

create function public.syncdesk_webhook_finish(p_inbox bigint, p_state text, p_reason text) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '5s' as $$
begin
    update syncdesk.inbox set state = p_state, reason = p_reason, processed_at = clock_timestamp(),
        body = case when p_state in ('processed', 'unhandled') and webhook_type = 'LINK'
            then syncdesk.without_tokens(body) else body end
        where id = p_inbox and state in ('received', 'failed');
    return jsonb_build_object('changed', found);
end $$;
