{{- define "cubicle.labels" -}}
app.kubernetes.io/name: cubicle
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}
{{- define "cubicle.keys" -}}
{{ .Values.controller.keys | default "cubicle-keys" }}
{{- end }}
