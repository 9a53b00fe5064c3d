{{- /* The text that helm prints after an install or an upgrade; NOTES.txt includes it. */}}
{{- define "blnk-gateway.notes" -}}
{{- $name := include "blnk-gateway.name" . }}
{{- $namespace := .Release.Namespace }}
{{- if eq .Values.form "ingress" -}}
Clients use {{ include "blnk-gateway.scheme" (list . "listen") }}://{{ $name }}.{{ $namespace }}:{{ .Values.service.port }} instead of {{ .Values.core.url }}.

Is it ready?
  kubectl --namespace {{ $namespace }} rollout status deployment/{{ $name }}
{{ if include "blnk-gateway.closesCore" . }}Is Core closed for everyone else?{{ else }}Can other pods reach the gateway?{{ end }}
  helm --namespace {{ $namespace }} test {{ .Release.Name }}
A first key:
  kubectl --namespace {{ $namespace }} exec --stdin --tty deployment/{{ $name }} -- blnk-gateway keys create \
    --owner acme --name payments --scopes 'transactions:*' --expires 365d
{{- else -}}
{{- $pods := list }}{{ range $label, $value := .Values.core.podLabels }}{{ $pods = append $pods (printf "%s=%s" $label $value) }}{{ end -}}
Clients use {{ include "blnk-gateway.scheme" (list . "listen") }}://{{ $name }}.{{ $namespace }}:{{ .Values.service.port }} instead of Core, once Core's pods have the sidecar.
If Core has no chart of its own, add this to its pods; its container listens on port {{ .Values.core.port }}:

terminationGracePeriodSeconds: {{ include "blnk-gateway.gracePeriodSeconds" . }}
enableServiceLinks: false
containers:
  - name: core   # yours
    lifecycle:
      {{- include "blnk-gateway.sidecar.coreLifecycle" . | nindent 6 }}
  {{- include "blnk-gateway.sidecar.containers" . | nindent 2 }}
volumes:
  {{- include "blnk-gateway.sidecar.volumes" . | nindent 2 }}

Is it ready?
  kubectl --namespace {{ $namespace }} wait pods --selector {{ join "," $pods }} --for condition=Ready
Is Core closed for other pods? Name the IP address of a pod; this must print that no Core responds:
  kubectl --namespace {{ $namespace }} run reach --rm --attach --restart=Never --image={{ include "blnk-gateway.image" . }} \
    -- check --reach http://POD_IP:{{ .Values.core.port }}
A first key:
  kubectl --namespace {{ $namespace }} exec --stdin --tty POD --container blnk-gateway -- blnk-gateway keys create \
    --owner acme --name payments --scopes 'transactions:*' --expires 365d
{{- end }}
{{- if not (include "blnk-gateway.closesCore" .) }}

WARNING: no NetworkPolicy closes Core. Whoever can connect to Core bypasses the gateway.
{{- end }}
{{- if eq .Values.redis.kind "memory" }}

WARNING: redis.kind is memory. A restart loses every key.
{{- end }}
{{- end }}
