-- Changing the master key: access tokens are sealed anew, one link at a time, while syncing goes on.

-- How many links each master key still seals, and the copy of the keys for the recovery code.
create function public.syncdesk_keys_used() returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    select jsonb_build_object(
        'links', coalesce((select jsonb_object_agg(access_key_id, n) from (
            select access_key_id, count(*) as n from syncdesk.items where access_token <> '' group by access_key_id
        ) by_key), '{}'),
        'recovery', (select value from syncdesk.settings where key = 'recovery'))
$$;

-- Sealed tokens of other keys than this one, by item; what one call answers is bounded.
create function public.syncdesk_tokens_of_other_keys(
    p_key_id text, p_after uuid default '00000000-0000-0000-0000-000000000000', p_limit integer default 200
) returns jsonb
language sql stable security definer set search_path = '' set statement_timeout = '10s' as $$
    select coalesce(jsonb_agg(jsonb_build_object('item_id', id, 'access_token', access_token,
        'access_key_id', access_key_id) order by id), '[]')
    from (select id, access_token, access_key_id from syncdesk.items
        where access_key_id <> p_key_id and access_token <> '' and id > p_after order by id limit p_limit) page
$$;

-- Puts the token that was sealed anew in the place of the one it was made from, and of no other.
create function public.syncdesk_token_resealed(
    p_item uuid, p_was text, p_access_token text, p_access_key_id text
) returns jsonb
language plpgsql security definer set search_path = '' set statement_timeout = '10s' as $$
begin
    update syncdesk.items set access_token = p_access_token, access_key_id = p_access_key_id
        where id = p_item and access_token = p_was;
    return jsonb_build_object('resealed', found);
end $$;
