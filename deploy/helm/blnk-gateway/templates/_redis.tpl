{{- /* The rights of the gateway in Redis, as in deploy/README.md. */}}
{{- define "blnk-gateway.redisRights" -}}
~{blnk-gateway}:* resetchannels -@all +ping +select +role +wait +info +config|get +cluster|slots +eval +time +get +mget +set +del +exists +scan +zadd +zcard +zcount +zrevrange +zrangebyscore +zrem +zmscore +sadd +srem +smembers +xadd +xread +xrange +xrevrange
{{- end }}

{{- define "blnk-gateway.redisScript" -}}
digest=$(printf %s "$REDISCLI_AUTH" | sha256sum | cut -c-64)
printf '%s\n' "user default off" \
  "user blnk-gateway on #$digest {{ include "blnk-gateway.redisRights" . }}" > /run/redis/users.acl
exec redis-server --dir /data --aclfile /run/redis/users.acl \
  --appendonly yes --appendfsync always --maxmemory {{ .Values.redis.bundled.maxMemory }} --maxmemory-policy noeviction
{{- end }}
