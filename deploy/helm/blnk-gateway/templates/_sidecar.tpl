{{- /*
For the chart of Core, which has this chart as a dependency with form: sidecar:

  {{- $gateway := index .Subcharts "blnk-gateway" }}
  spec:
    enableServiceLinks: false
    terminationGracePeriodSeconds: {{ include "blnk-gateway.sidecar.gracePeriodSeconds" $gateway }}
    containers:
      - name: core
        lifecycle: {{- include "blnk-gateway.sidecar.coreLifecycle" $gateway | nindent 10 }}
        ...
      {{- include "blnk-gateway.sidecar.containers" $gateway | nindent 6 }}
    volumes:
      {{- include "blnk-gateway.sidecar.volumes" $gateway | nindent 6 }}
*/}}
{{- define "blnk-gateway.sidecar.containers" -}}
- {{- include "blnk-gateway.container" . | nindent 2 }}
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
