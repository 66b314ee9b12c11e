"""Routes of staff sign-on, below ``/admin/``."""

from django.urls import path

from external_apis.sign_on import views

app_name = "sign_on"
urlpatterns = [
    path("sign-on", views.begin, name="begin"),
    path("sign-on/complete", views.complete, name="complete"),
    path("logout/", views.log_out, name="log_out"),
]
