{{- /* The Secrets of TLS, which are folders of the volume blnk-gateway-secrets, and the settings that name them. */}}
{{- define "blnk-gateway.tlsVariables" -}}
{{- $folder := "/run/secrets/blnk-gateway" -}}
{{- if .Values.tls.secret }}
- {name: BLNK_GATEWAY_TLS__CERTIFICATE, value: {{ $folder }}/tls/tls.crt}
- {name: BLNK_GATEWAY_TLS__KEY, value: {{ $folder }}/tls/tls.key}
- {name: BLNK_GATEWAY_TLS__LISTENERS, value: {{ join "," .Values.tls.listeners | quote }}}
{{- end }}
{{- if .Values.tls.clientCa.name }}
- {name: BLNK_GATEWAY_TLS__CLIENT_CA, value: {{ $folder }}/clients/ca.crt}
{{- end }}
{{- if .Values.core.tls.ca.name }}
- {name: BLNK_GATEWAY_UPSTREAM__CA_FILE, value: {{ $folder }}/core-ca/ca.crt}
{{- end }}
{{- if .Values.core.tls.secret }}
- {name: BLNK_GATEWAY_UPSTREAM__CERTIFICATE, value: {{ $folder }}/core/tls.crt}
- {name: BLNK_GATEWAY_UPSTREAM__KEY, value: {{ $folder }}/core/tls.key}
{{- end }}
{{- end }}

{{- define "blnk-gateway.tlsSources" -}}
{{- with .Values.tls.secret }}
- secret:
    name: {{ . | quote }}
    items: [{key: tls.crt, path: tls/tls.crt}, {key: tls.key, path: tls/tls.key}]
{{- end }}
{{- with .Values.tls.clientCa }}
{{- if .name }}
- secret:
    name: {{ .name | quote }}
    items: [{key: {{ .key | quote }}, path: clients/ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.core.tls.ca }}
{{- if .name }}
- secret:
    name: {{ .name | quote }}
    items: [{key: {{ .key | quote }}, path: core-ca/ca.crt}]
{{- end }}
{{- end }}
{{- with .Values.core.tls.secret }}
- secret:
    name: {{ . | quote }}
    items: [{key: tls.crt, path: core/tls.crt}, {key: tls.key, path: core/tls.key}]
{{- end }}
{{- end }}

{{- /* What a listener speaks, http or https: by the values, else by the file. The argument is a list: . and its name. */}}
{{- define "blnk-gateway.scheme" -}}
{{- $values := (index . 0).Values -}}
{{- $file := include "blnk-gateway.readFile" (index . 0) | fromJson -}}
{{- $certificate := $values.tls.secret | default (dig "tls" "certificate" "" $file) -}}
{{- $listeners := ternary $values.tls.listeners (dig "tls" "listeners" (list "listen") $file) (ne $values.tls.secret "") -}}
{{- ternary "https" "http" (and (ne $certificate "") (has (index . 1) $listeners)) -}}
{{- end }}

{{- /* A probe of a page of health. The kubelet accepts any certificate. The argument is a list: . and the page. */}}
{{- define "blnk-gateway.probe" -}}
{{- $scheme := include "blnk-gateway.scheme" (list (index . 0) "health") | upper -}}
{path: /health/{{ index . 1 }}, port: health, scheme: {{ $scheme }}}
{{- end }}
