{{- /* A variable from a Secret; the argument is a list: its name and {name, key}. */}}
{{- define "blnk-gateway.secretVariable" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef: {name: {{ (index . 1).name | quote }}, key: {{ (index . 1).key | quote }}}
{{- end }}

{{- define "blnk-gateway.storeVariables" -}}
{{- if eq .Values.redis.kind "external" }}
{{ include "blnk-gateway.secretVariable" (list "BLNK_GATEWAY_KEYS__STORE" .Values.secrets.redisUrl) }}
{{- else if eq .Values.redis.kind "bundled" }}
{{ include "blnk-gateway.secretVariable" (list "REDIS_PASSWORD" .Values.secrets.redisPassword) }}
- name: BLNK_GATEWAY_KEYS__STORE
  value: redis://blnk-gateway:$(REDIS_PASSWORD)@{{ include "blnk-gateway.redisName" . }}:6379/0
{{- else }}
- {name: BLNK_GATEWAY_KEYS__STORE, value: "memory://"}
{{- end }}
{{- end }}

{{- /* The shipper needs the Redis and nothing else: it reads the gateway.yaml of the image. */}}
{{- define "blnk-gateway.shipperEnv" -}}
{{- if and (eq .Values.redis.kind "external") .Values.secrets.auditRedisUrl.name }}
{{- include "blnk-gateway.secretVariable" (list "BLNK_GATEWAY_KEYS__STORE" .Values.secrets.auditRedisUrl) }}
{{- else }}
{{- include "blnk-gateway.storeVariables" . | trim }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.env" -}}
{{- $bind := .Values.bindAddress -}}
- {name: BLNK_GATEWAY_LISTEN, value: {{ printf "%s:5001" $bind | quote }}}
- {name: BLNK_GATEWAY_HEALTH, value: {{ printf "%s:5003" $bind | quote }}}
- {name: BLNK_GATEWAY_ADMIN, value: {{ ternary (printf "%s:5002" $bind) "127.0.0.1:5002" .Values.admin.enabled | quote }}}
{{- if .Values.admin.enabled }}
- {name: BLNK_GATEWAY_ADMIN_TOKEN_FILE, value: /run/secrets/blnk-gateway/admin-token}
{{- end }}
- {name: BLNK_GATEWAY_UPSTREAM__URL, value: {{ include "blnk-gateway.coreUrl" . | quote }}}
- {name: BLNK_GATEWAY_UPSTREAM__MASTER_KEY_FILE, value: /run/secrets/blnk-gateway/master-key}
- {name: BLNK_GATEWAY_UPSTREAM__MASTER_KEY_NEXT_FILE, value: /run/secrets/blnk-gateway/master-key-next}
{{- include "blnk-gateway.storeVariables" . }}
{{- if .Values.core.database }}
{{ include "blnk-gateway.secretVariable" (list "BLNK_GATEWAY_KEYS__CORE_DATABASE" .Values.secrets.coreDatabase) }}
{{- end }}
{{- include "blnk-gateway.tlsVariables" . }}
{{- include "blnk-gateway.variables" (dict "prefix" "BLNK_GATEWAY_" "settings" .Values.settings) }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* The variables that extraEnv must not have, each with what to write instead. */}}
{{- define "blnk-gateway.variableAdvice" -}}
BLNK_GATEWAY_LISTEN: write bindAddress for the address; the port is 5001 in the pod, and service.port for clients
BLNK_GATEWAY_LISTEN_MODE: remove it, because the chart has no Unix socket
BLNK_GATEWAY_HEALTH: write bindAddress for the address; the port is 5003
BLNK_GATEWAY_ADMIN: "write admin.enabled: true, and bindAddress for the address; the port is 5002"
BLNK_GATEWAY_ADMIN_TOKEN_FILE: "write admin.enabled: true, and name the Secret in secrets.adminToken"
BLNK_GATEWAY_UPSTREAM__URL: write core.url, or in the sidecar form core.port
BLNK_GATEWAY_UPSTREAM__MASTER_KEY: name the Secret in secrets.masterKey
BLNK_GATEWAY_UPSTREAM__MASTER_KEY_FILE: name the Secret in secrets.masterKey
BLNK_GATEWAY_UPSTREAM__MASTER_KEY_NEXT_FILE: name the Secret in secrets.masterKeyNext
BLNK_GATEWAY_UPSTREAM__CA_FILE: name the Secret in core.tls.ca
BLNK_GATEWAY_UPSTREAM__CERTIFICATE: name the Secret in core.tls.secret
BLNK_GATEWAY_UPSTREAM__KEY: name the Secret in core.tls.secret
BLNK_GATEWAY_KEYS__STORE: "write redis.kind, and for external name the Secret in secrets.redisUrl"
BLNK_GATEWAY_KEYS__CORE_DATABASE: "write core.database: true, and name the Secret in secrets.coreDatabase"
BLNK_GATEWAY_KEYS__AUTHORITY: write settings.keys.authority
BLNK_GATEWAY_DECIDE__LISTEN: remove it, because the chart opens no port for decisions
BLNK_GATEWAY_DRAIN__DELAY: write settings.drain.delay
BLNK_GATEWAY_DRAIN__TIMEOUT: write settings.drain.timeout
BLNK_GATEWAY_TLS__CERTIFICATE: name the Secret in tls.secret
BLNK_GATEWAY_TLS__KEY: name the Secret in tls.secret
BLNK_GATEWAY_TLS__CLIENT_CA: name the Secret in tls.clientCa
BLNK_GATEWAY_TLS__LISTENERS: write tls.listeners
{{- if eq .Values.redis.kind "bundled" }}
REDIS_PASSWORD: name the Secret in secrets.redisPassword
{{- end }}
{{- end }}

{{- /* The container of the gateway, in both forms. */}}
{{- define "blnk-gateway.container" -}}
name: blnk-gateway
image: {{ include "blnk-gateway.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve{{ if .Values.observe }}, --observe{{ end }}]
env:
  {{- include "blnk-gateway.env" . | nindent 2 }}
ports:
  - {name: gateway, containerPort: 5001}
  - {name: health, containerPort: 5003}
  {{- if .Values.admin.enabled }}
  - {name: admin, containerPort: 5002}
  {{- end }}
# Alive depends on nothing: a restart does not bring back Core or Redis.
startupProbe:
  httpGet: {{ include "blnk-gateway.probe" (list . "alive") }}
  periodSeconds: 1
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  httpGet: {{ include "blnk-gateway.probe" (list . "alive") }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
# Ready: Core was seen secure and has accepted the master key, and the gateway does not drain.
readinessProbe:
  httpGet: {{ include "blnk-gateway.probe" (list . "ready") }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  runAsUser: 10001
  runAsGroup: 10001
  {{- include "blnk-gateway.containerSecurity" . | nindent 2 }}
# Folders, never subPath: kubelet does not update a file that is mounted with subPath.
volumeMounts:
  - {name: blnk-gateway-config, mountPath: /etc/blnk-gateway, readOnly: true}
  - {name: blnk-gateway-secrets, mountPath: /run/secrets/blnk-gateway, readOnly: true}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- /* The volumes of the pod in which the container is. */}}
{{- define "blnk-gateway.volumes" -}}
- name: blnk-gateway-config
  configMap: {name: {{ include "blnk-gateway.name" . }}}
- name: blnk-gateway-secrets
  projected:
    defaultMode: 0444
    sources:
      - secret:
          name: {{ .Values.secrets.masterKey.name | quote }}
          items: [{key: {{ .Values.secrets.masterKey.key | quote }}, path: master-key}]
      - secret:
          name: {{ .Values.secrets.masterKeyNext.name | quote }}
          items: [{key: {{ .Values.secrets.masterKeyNext.key | quote }}, path: master-key-next}]
          optional: true
      {{- if .Values.admin.enabled }}
      - secret:
          name: {{ .Values.secrets.adminToken.name | quote }}
          items: [{key: {{ .Values.secrets.adminToken.key | quote }}, path: admin-token}]
      {{- end }}
      {{- include "blnk-gateway.tlsSources" . | indent 6 }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
