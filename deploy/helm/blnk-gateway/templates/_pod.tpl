{{- /* What each pod of the chart needs that runs the gateway's image. */}}
{{- define "blnk-gateway.podBasics" -}}
automountServiceAccountToken: false
# Kubernetes would add a variable for each Service, such as BLNK_GATEWAY_PORT, that is no setting.
enableServiceLinks: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- /* The pods of the ingress form. */}}
{{- define "blnk-gateway.podSpec" -}}
{{- include "blnk-gateway.podBasics" . }}
terminationGracePeriodSeconds: {{ include "blnk-gateway.gracePeriodSeconds" . }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: {{ ternary "DoNotSchedule" "ScheduleAnyway" (eq .Values.spread "required") }}
    labelSelector:
      matchLabels:
        {{- include "blnk-gateway.ownLabels" . | nindent 8 }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "blnk-gateway.ownLabels" . | nindent 8 }}
{{- include "blnk-gateway.podPlaces" . }}
containers:
  - {{ include "blnk-gateway.container" . | indent 4 | trim }}
volumes:
  {{- include "blnk-gateway.volumes" . | nindent 2 }}
{{- end }}

{{- /* On which nodes pods may be. */}}
{{- define "blnk-gateway.podPlaces" -}}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
