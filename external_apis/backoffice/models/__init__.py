"""The backoffice's tables."""

from __future__ import annotations

from external_apis.backoffice.models.affiliates import Affiliate, AffiliateEntry, AffiliateStatus, EntryKind
from external_apis.backoffice.models.ai_models import AiModel
from external_apis.backoffice.models.ai_usage import AiCall, AiDimension, AiUsageSum
from external_apis.backoffice.models.blogs import Blog, BlogStatus
from external_apis.backoffice.models.contact_messages import ContactMessage
from external_apis.backoffice.models.feature_requests import FeatureRequest, FeatureStatus, FeatureVote
from external_apis.backoffice.models.overview import OverviewCount, OverviewMark, OverviewSum, ResourceSum
from external_apis.backoffice.models.plans import MOST_TOKENS, Plan, PlanPeriod
from external_apis.backoffice.models.sessions import UserSession
from external_apis.backoffice.models.tokens import TokenChange, TokenOperation
from external_apis.backoffice.models.visits import VisitBatch, VisitKind, VisitSum
from external_apis.backoffice.models.withdrawals import Withdrawal, WithdrawalStatus

__all__ = [
    "MOST_TOKENS",
    "Affiliate",
    "AffiliateEntry",
    "AffiliateStatus",
    "AiCall",
    "AiDimension",
    "AiModel",
    "AiUsageSum",
    "Blog",
    "BlogStatus",
    "ContactMessage",
    "EntryKind",
    "FeatureRequest",
    "FeatureStatus",
    "FeatureVote",
    "OverviewCount",
    "OverviewMark",
    "OverviewSum",
    "Plan",
    "PlanPeriod",
    "ResourceSum",
    "TokenChange",
    "TokenOperation",
    "UserSession",
    "VisitBatch",
    "VisitKind",
    "VisitSum",
    "Withdrawal",
    "WithdrawalStatus",
]
