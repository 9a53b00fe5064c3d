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
{{- define "blnk-gateway.ownShipperEnv" -}}
{{- if and (eq .Values.redis.kind "external") .Values.secrets.auditRedisUrl.name }}
{{- include "blnk-gateway.secretVariable" (list "BLNK_GATEWAY_KEYS__STORE" .Values.secrets.auditRedisUrl) }}
{{- else }}
{{- include "blnk-gateway.storeVariables" . | trim }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.shipperEnv" -}}
{{- include "blnk-gateway.ownShipperEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.ownEnv" -}}
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
{{- end }}

{{- define "blnk-gateway.env" -}}
{{- include "blnk-gateway.ownEnv" . }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
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
