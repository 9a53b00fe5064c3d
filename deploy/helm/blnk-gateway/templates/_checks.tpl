{{- /* Every reason why these values cannot work, one a line; nothing if they can. */}}
{{- define "blnk-gateway.problems" -}}
{{- include "blnk-gateway.coreProblems" . }}
{{- include "blnk-gateway.scalingProblems" . }}
{{- include "blnk-gateway.fileProblems" . }}
{{- include "blnk-gateway.storeProblems" . }}
{{- include "blnk-gateway.drainProblems" . }}
{{- include "blnk-gateway.openingProblems" . }}
{{- include "blnk-gateway.listenerProblems" . }}
{{- include "blnk-gateway.tlsProblems" . }}
{{- include "blnk-gateway.shipperProblems" . }}
{{- include "blnk-gateway.variableProblems" . }}
{{- end }}

{{- define "blnk-gateway.problem" }}
- {{ . }}
{{- end }}

{{- define "blnk-gateway.coreProblems" }}
{{- $core := .Values.core }}
{{- if eq .Values.form "sidecar" }}
{{- if not $core.podLabels }}
{{- include "blnk-gateway.problem" "core.podLabels is missing: write the labels of the pods that have the sidecar" }}
{{- end }}
{{- if has (int $core.port) (list 5001 5002 5003) }}
{{- include "blnk-gateway.problem" (printf "core.port %v is a port of the gateway in the same pod: let Core listen on another one (BLNK_SERVER_PORT), and write it here, such as 5100" $core.port) }}
{{- end }}
{{- if $core.namespace }}
{{- include "blnk-gateway.problem" "core.namespace is for the ingress form: remove it, and install the release in the namespace of Core" }}
{{- end }}
{{- else }}
{{- if not $core.url }}
{{- include "blnk-gateway.problem" "core.url is missing: write http://SERVICE:PORT of Core, as http://core:5001" }}
{{- end }}
{{- if and (include "blnk-gateway.closesCore" .) (not $core.podLabels) }}
{{- include "blnk-gateway.problem" "core.podLabels is missing: write the labels of Core's pods, which the NetworkPolicy closes for all but the gateway; or networkPolicy.closeCore: false" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.scalingProblems" }}
{{- with .Values.autoscaling }}
{{- if and .enabled (eq $.Values.form "sidecar") }}
{{- include "blnk-gateway.problem" "autoscaling is for the ingress form: write autoscaling.enabled: false, because a sidecar scales with Core's pods" }}
{{- end }}
{{- if and .enabled (gt (int .min) (int .max)) }}
{{- include "blnk-gateway.problem" (printf "autoscaling.min is %v, but autoscaling.max is %v: write a smaller min or a larger max" .min .max) }}
{{- end }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.storeProblems" }}
{{- $several := or (gt (int .Values.replicas) 1) .Values.autoscaling.enabled (eq .Values.form "sidecar") }}
{{- if not .Values.redis.kind }}
{{- include "blnk-gateway.problem" "redis.kind is missing: write external (your own Redis), bundled (one in this release), or memory (a trial)" }}
{{- else if and (eq .Values.redis.kind "memory") $several }}
{{- include "blnk-gateway.problem" "redis.kind memory: each pod would have keys of its own; write replicas: 1 in the ingress form without autoscaling, or redis.kind: external or bundled" }}
{{- end }}
{{- $file := include "blnk-gateway.readFile" . | fromJson }}
{{- $given := hasKey (.Values.settings.keys | default dict) "authority" }}
{{- $authority := ternary .Values.settings $file $given | dig "keys" "authority" "gateway" }}
{{- if and (eq (toString $authority) "core") (not .Values.core.database) }}
{{- include "blnk-gateway.problem" (printf "keys.authority of %s is core: write core.database: true, and name the Secret with the URL of Core's database in secrets.coreDatabase" (ternary "settings" "gatewayYaml" $given)) }}
{{- end }}
{{- end }}

{{- /* What the gateway would refuse of the sections that the chart reads. */}}
{{- define "blnk-gateway.fileProblems" }}
{{- $file := include "blnk-gateway.file" . | fromYaml }}
{{- if $file.Error }}
{{- include "blnk-gateway.problem" "gatewayYaml is no YAML mapping: run blnk-gateway check on the file" }}
{{- end }}
{{- range $name := list "keys" "drain" "decide" "tls" }}
{{- $section := get $file $name }}
{{- if and (hasKey $file $name) (not (kindIs "map" $section)) }}
{{- include "blnk-gateway.problem" (printf "%s of gatewayYaml has no settings: write them below it, indented, as 'key: value', or remove the line" $name) }}
{{- end }}
{{- end }}
{{- range $section, $texts := include "blnk-gateway.fileTexts" . | fromYaml }}
{{- $settings := get $file $section }}
{{- range $name, $advice := $texts }}
{{- if and (kindIs "map" $settings) (hasKey $settings $name) (not (kindIs "string" (get $settings $name))) }}
{{- include "blnk-gateway.problem" (printf "%s.%s of gatewayYaml is no text: %s" $section $name $advice) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and (kindIs "map" $file.tls) (hasKey $file.tls "listeners") (not (kindIs "slice" $file.tls.listeners)) }}
{{- include "blnk-gateway.problem" "tls.listeners of gatewayYaml is no list: write one, as [listen, admin]" }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.drainProblems" }}
{{- $drain := include "blnk-gateway.drain" . | fromJson }}
{{- $given := .Values.settings.drain | default dict }}
{{- range $name, $value := $drain }}
{{- if lt (include "blnk-gateway.milliseconds" $value | int) 0 }}
{{- include "blnk-gateway.problem" (printf "drain.%s of %s is no duration that the chart can read: write it as 25s" $name (ternary "settings" "gatewayYaml" (hasKey $given $name))) }}
{{- end }}
{{- end }}
{{- $grace := int .Values.terminationGracePeriodSeconds }}
{{- $longest := include "blnk-gateway.drainSeconds" . | int }}
{{- if and $grace (le $grace $longest) }}
{{- include "blnk-gateway.problem" (printf "terminationGracePeriodSeconds is %d, but drain.delay and drain.timeout take %d seconds: write more than that, or 0 for 10 seconds more" $grace $longest) }}
{{- end }}
{{- end }}

{{- /* Openings that would let anybody reach Core, or show keys on the way. */}}
{{- define "blnk-gateway.openingProblems" }}
{{- range $number, $rule := .Values.core.alsoAllow }}
{{- $place := printf "core.alsoAllow[%d]" $number }}
{{- if not $rule.from }}
{{- include "blnk-gateway.problem" (printf "%s admits everyone: name pods or networks in from" $place) }}
{{- end }}
{{- range $rule.from }}
{{- if include "blnk-gateway.admitsEveryone" . }}
{{- include "blnk-gateway.problem" (printf "%s admits every pod or address: name the labels of pods, or a network" $place) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) }}
{{- include "blnk-gateway.problem" "ingress.host is missing: write the host name that clients use" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.tlsSecret) (not .Values.ingress.tlsElsewhere) }}
{{- include "blnk-gateway.problem" "ingress.tlsSecret is missing, but requests contain keys: name a Secret of type kubernetes.io/tls; or write ingress.tlsElsewhere: true if a load balancer in front terminates TLS" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- include "blnk-gateway.problem" "httpRoute.parentRefs is missing: name the Gateway, as [{name: public, namespace: gateways}]" }}
{{- end }}
{{- end }}

{{- /* Something if a peer of a NetworkPolicy selects pods by no label, or all addresses. */}}
{{- define "blnk-gateway.admitsEveryone" -}}
{{- $pods := .podSelector | default dict -}}
{{- $all := list "0.0.0.0/0" "::/0" -}}
{{- if .ipBlock -}}
{{- if has .ipBlock.cidr $all }}true{{ end -}}
{{- else if not (or $pods.matchLabels $pods.matchExpressions) -}}
true
{{- end -}}
{{- end }}

{{- /* Listeners that the probes and Services of the chart do not fit. */}}
{{- define "blnk-gateway.listenerProblems" }}
{{- $file := include "blnk-gateway.readFile" . | fromJson }}
{{- if has "health" (dig "tls" "listeners" list $file) }}
{{- include "blnk-gateway.problem" "tls.listeners of gatewayYaml names health: remove tls there, and write the values tls.secret and tls.listeners, which probes and Prometheus follow" }}
{{- end }}
{{- range $place, $settings := dict "gatewayYaml" $file "settings" .Values.settings }}
{{- if dig "decide" "listen" "" $settings }}
{{- include "blnk-gateway.problem" (printf "decide.listen of %s needs a port that the chart does not open: remove it, and let the ingress forward requests to the gateway" $place) }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Values of TLS that the gateway would refuse, or that would be used for nothing. */}}
{{- define "blnk-gateway.tlsProblems" }}
{{- $tls := .Values.tls }}
{{- $file := include "blnk-gateway.readFile" . | fromJson }}
{{- if and $tls.secret (dig "tls" dict $file) }}
{{- include "blnk-gateway.problem" "tls.secret and tls of gatewayYaml exclude each other: remove one of them" }}
{{- end }}
{{- if and $tls.clientCa.name (not $tls.secret) }}
{{- include "blnk-gateway.problem" "tls.clientCa is of no use without TLS: name a Secret in tls.secret, or remove tls.clientCa" }}
{{- end }}
{{- if and $tls.clientCa.name (not (or (has "listen" $tls.listeners) (has "admin" $tls.listeners))) }}
{{- include "blnk-gateway.problem" "tls.clientCa is of no use, because health never asks for a certificate: write listen or admin in tls.listeners, or remove tls.clientCa" }}
{{- end }}
{{- if and (or .Values.core.tls.ca.name .Values.core.tls.secret) (not (hasPrefix "https://" (include "blnk-gateway.coreUrl" .))) }}
{{- include "blnk-gateway.problem" "core.tls is of no use without TLS to Core: write https:// in core.url, or remove core.tls" }}
{{- end }}
{{- with .Values.monitoring.serviceMonitor }}
{{- if and .enabled (not .tlsConfig) (eq "https" (include "blnk-gateway.scheme" (list $ "health"))) }}
{{- include "blnk-gateway.problem" "monitoring.serviceMonitor.tlsConfig is missing: tls.listeners names health, so Prometheus has to verify its certificate; write the authority and the name, as {ca: {secret: {name: SECRET, key: ca.crt}}, serverName: NAME}" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "blnk-gateway.shipperProblems" }}
{{- if and .Values.auditShipper.enabled (eq .Values.redis.kind "memory") }}
{{- include "blnk-gateway.problem" "auditShipper.enabled is true, but with redis.kind memory only the gateway's own pod can read the audit stream: write false, or redis.kind: external or bundled" }}
{{- end }}
{{- end }}

{{- /* Variables of extraEnv that have a value of the chart: the gateway would take one of two, or refuse both. */}}
{{- define "blnk-gateway.variableProblems" }}
{{- $advice := include "blnk-gateway.variableAdvice" . | fromYaml }}
{{- range include "blnk-gateway.variables" (dict "prefix" "BLNK_GATEWAY_" "settings" .Values.settings) | fromYamlArray }}
{{- $path := trimPrefix "BLNK_GATEWAY_" .name | lower | replace "__" "." }}
{{- $_ := set $advice .name (printf "write settings.%s" $path) }}
{{- end }}
{{- $seen := dict }}
{{- range $number, $variable := .Values.extraEnv }}
{{- $name := toString $variable.name }}
{{- if hasKey $advice $name }}
{{- include "blnk-gateway.problem" (printf "extraEnv[%d] is %s, which cannot be set here: %s" $number $name (get $advice $name)) }}
{{- else if hasKey $seen $name }}
{{- include "blnk-gateway.problem" (printf "extraEnv[%d] is %s, as an earlier one of them: remove one" $number $name) }}
{{- end }}
{{- $_ := set $seen $name true }}
{{- end }}
{{- end }}
