"""Seed 001's Python example with its one mended comparison, and address, key and user from the environment."""

import json
import os
from datetime import datetime, timezone

import requests

API_BASE = os.environ["API_BASE"]
API_KEY = os.environ["API_KEY"]


class ExternalAdminAPI:
    def __init__(self, api_base, api_key):
        self.api_base = api_base
        self.api_key = api_key
        self.jwt_token = None
        self.token_expires_at = None

    def get_jwt_token(self):
        if self.jwt_token and self.token_expires_at:
            if datetime.now(timezone.utc) < self.token_expires_at:
                return self.jwt_token

        response = requests.post(f"{self.api_base}/auth/validate", headers={"Authorization": f"Bearer {self.api_key}"})
        data = response.json()

        if not data["success"]:
            raise Exception(data["error"]["message"])

        self.jwt_token = data["data"]["token"]
        self.token_expires_at = datetime.fromisoformat(data["data"]["expiresAt"].replace("Z", "+00:00"))
        return self.jwt_token

    def request(self, method, path, body=None):
        token = self.get_jwt_token()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

        response = requests.request(method, f"{self.api_base}{path}", headers=headers, json=body)
        return response.json()


api = ExternalAdminAPI(API_BASE, API_KEY)
users = api.request("GET", "/users?page=1&perPage=10")
result = api.request("PATCH", f"/users/{os.environ['USER_ID']}/plan", {"plan": "professional"})
print(json.dumps({"users": users, "plan": result}))
