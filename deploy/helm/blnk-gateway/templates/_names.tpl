{{- /* The name of all objects: at most 50 characters, so that -health and a pod's suffix fit in 63. */}}
{{- define "blnk-gateway.name" -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) -}}
{{- .Values.name | default $release | trunc 50 | trimSuffix "-" -}}
{{- end }}

{{- define "blnk-gateway.redisName" -}}
{{ include "blnk-gateway.name" . }}-redis
{{- end }}

{{- /* Labels that only the gateway's own pods have. */}}
{{- define "blnk-gateway.ownLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: gateway
{{- end }}

{{- /* Labels of the pods in which the gateway runs. */}}
{{- define "blnk-gateway.podSelector" -}}
{{- if eq .Values.form "sidecar" }}{{ toYaml .Values.core.podLabels }}{{ else }}{{ include "blnk-gateway.ownLabels" . }}{{ end }}
{{- end }}

{{- define "blnk-gateway.redisLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: redis
{{- end }}

{{- define "blnk-gateway.shipperName" -}}
{{ include "blnk-gateway.name" . }}-audit
{{- end }}

{{- define "blnk-gateway.shipperLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: audit
{{- end }}

{{- /* Labels of an object; no selector uses them. */}}
{{- define "blnk-gateway.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: blnk
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "blnk-gateway.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end }}

{{- define "blnk-gateway.coreUrl" -}}
{{- $local := printf "http://127.0.0.1:%v" .Values.core.port -}}
{{- .Values.core.url | default (ternary $local "" (eq .Values.form "sidecar")) -}}
{{- end }}

{{- /* The namespace of Core's pods. */}}
{{- define "blnk-gateway.coreNamespace" -}}
{{- .Values.core.namespace | default .Release.Namespace -}}
{{- end }}

{{- /* Something if a NetworkPolicy closes Core. */}}
{{- define "blnk-gateway.closesCore" -}}
{{- if and .Values.networkPolicy.enabled .Values.networkPolicy.closeCore }}true{{ end -}}
{{- end }}

{{- /* The security context of a container. */}}
{{- define "blnk-gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- end }}
