{{- /* Templates for the chart of Core: see the README. Their context is `index .Subcharts "blnk-gateway"`. */}}
{{- define "blnk-gateway.sidecar.containers" -}}
- {{ include "blnk-gateway.container" . | indent 2 | trim }}
{{- end }}

{{- define "blnk-gateway.sidecar.volumes" -}}
{{- include "blnk-gateway.volumes" . }}
{{- end }}

{{- /* Core and gateway get SIGTERM at the same time: this keeps Core up while the gateway drains. */}}
{{- define "blnk-gateway.sidecar.coreLifecycle" -}}
preStop:
  exec: {command: [sleep, {{ include "blnk-gateway.drainSeconds" . | quote }}]}
{{- end }}

{{- define "blnk-gateway.sidecar.gracePeriodSeconds" -}}
{{- include "blnk-gateway.gracePeriodSeconds" . }}
{{- end }}
