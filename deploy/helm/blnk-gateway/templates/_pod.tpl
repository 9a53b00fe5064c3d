{{- /* The pods of the ingress form. */}}
{{- define "blnk-gateway.podSpec" -}}
automountServiceAccountToken: false
# Kubernetes would add a variable for each Service, such as BLNK_GATEWAY_PORT, that is no setting.
enableServiceLinks: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
terminationGracePeriodSeconds: {{ include "blnk-gateway.gracePeriodSeconds" . }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
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
containers:
  - {{ include "blnk-gateway.container" . | indent 4 | trim }}
volumes:
  {{- include "blnk-gateway.volumes" . | nindent 2 }}
{{- end }}
