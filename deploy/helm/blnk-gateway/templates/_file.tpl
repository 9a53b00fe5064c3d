{{- /* gateway.yaml, as the pods get it. */}}
{{- define "blnk-gateway.file" -}}
{{- .Values.gatewayYaml | default (.Files.Get "files/gateway.yaml") -}}
{{- end }}

{{- /* A duration of gateway.yaml in milliseconds; -1 if it is none. */}}
{{- define "blnk-gateway.milliseconds" -}}
{{- $text := toString . -}}
{{- if regexMatch "^(0|[0-9]+(ms|s|m|h))$" $text -}}
{{- $unit := regexFind "[a-z]*$" $text -}}
{{- mul (regexFind "^[0-9]+" $text | int64) (get (dict "" 0 "ms" 1 "s" 1000 "m" 60000 "h" 3600000) $unit) -}}
{{- else -}}
-1
{{- end -}}
{{- end }}

{{- /* drain.delay and drain.timeout: of the settings, else of the file, else the gateway's defaults. */}}
{{- define "blnk-gateway.drain" -}}
{{- $drain := dict "delay" "5s" "timeout" "25s" -}}
{{- range list (include "blnk-gateway.readFile" . | fromJson) .Values.settings -}}
{{- /* Not merge: it takes 0 for a value that is missing. */ -}}
{{- range $name, $value := pick (.drain | default dict) "delay" "timeout" }}{{ $_ := set $drain $name $value }}{{ end -}}
{{- end -}}
{{- toJson $drain -}}
{{- end }}

{{- /* The longest drain in seconds, rounded up. */}}
{{- define "blnk-gateway.drainSeconds" -}}
{{- $drain := include "blnk-gateway.drain" . | fromJson -}}
{{- $delay := include "blnk-gateway.milliseconds" $drain.delay | int64 -}}
{{- $timeout := include "blnk-gateway.milliseconds" $drain.timeout | int64 -}}
{{- div (add $delay $timeout 999) 1000 -}}
{{- end }}

{{- define "blnk-gateway.gracePeriodSeconds" -}}
{{- .Values.terminationGracePeriodSeconds | default (add (include "blnk-gateway.drainSeconds" .) 10) -}}
{{- end }}

{{- /* Settings below a prefix, as variables: {timeouts: {head: 5s}} is BLNK_GATEWAY_TIMEOUTS__HEAD. */}}
{{- define "blnk-gateway.variables" -}}
{{- $prefix := .prefix -}}
{{- range $name, $value := .settings }}
{{- $variable := printf "%s%s" $prefix (upper $name) }}
{{- if kindIs "map" $value }}
{{- include "blnk-gateway.variables" (dict "prefix" (printf "%s__" $variable) "settings" $value) }}
{{- else if kindIs "slice" $value }}
- {name: {{ $variable }}, value: {{ join "," $value | quote }}}
{{- else }}
- {name: {{ $variable }}, value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* The texts that the chart reads of gateway.yaml, each with what to write where it is no text. */}}
{{- define "blnk-gateway.fileTexts" -}}
keys: {authority: write gateway or core}
decide: {listen: "remove it, because the chart opens no port for decisions"}
tls: {certificate: write the path of a file}
{{- end }}

{{- /* What the chart reads of gateway.yaml, as JSON, without sections, texts and lists that are none: fileProblems refuses those. */}}
{{- define "blnk-gateway.readFile" -}}
{{- $file := include "blnk-gateway.file" . | fromYaml -}}
{{- $read := dict -}}
{{- range $name := list "keys" "drain" "decide" "tls" -}}
{{- $section := get $file $name -}}
{{- $_ := set $read $name (ternary $section dict (kindIs "map" $section)) -}}
{{- end -}}
{{- range $section, $texts := include "blnk-gateway.fileTexts" . | fromYaml -}}
{{- $settings := get $read $section -}}
{{- range $name, $_ := $texts -}}
{{- if not (kindIs "string" (get $settings $name)) }}{{ $_ := unset $settings $name }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "slice" $read.tls.listeners) }}{{ $_ := unset $read.tls "listeners" }}{{ end -}}
{{- toJson $read -}}
{{- end }}
