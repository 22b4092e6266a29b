"""config.yml and the environment -> one typed, validated, frozen settings tree.

::

    settings = config.load()
    settings.endpoint("data832").full_path(settings.beamline("bl832").relative("/global/raw/p/scan.h5"))

There is no global state: pass the `Settings` on. Credentials are not part of it; `credentials` reads them from the
environment when they are needed.
"""

from __future__ import annotations

from orchestration.config.archives import ArchiveEndpoint
from orchestration.config.arrivals import Arrivals
from orchestration.config.beamline import Beamline, CatalogueDefaults, Streaming
from orchestration.config.consistency import notes
from orchestration.config.document import Problem
from orchestration.config.endpoint import Endpoint
from orchestration.config.environment import Credentials, credentials, environment_file, load_environment, smtp_login
from orchestration.config.load import inspect, load, locate
from orchestration.config.models import GlobusApp, GlobusSettings, Images, Settings
from orchestration.config.notify import NotifySettings, is_address
from orchestration.config.policies import (
    CopyRequirement,
    DatasetRule,
    LedgerSettings,
    RetentionRule,
    ScicatSettings,
    SitingPolicy,
    TransferPolicy,
    VariableKey,
    WaitingPolicy,
    state_directory,
)
from orchestration.config.schema import settings_schema
from orchestration.config.search import PUBLIC, SearchIndex, SearchSettings, is_principal
from orchestration.config.sites import (
    REPORT_SECONDS,
    Attempts,
    ComputeEndpoints,
    ComputeSite,
    Container,
    GlobusComputeSite,
    IriSite,
    LocalSite,
    NerscSite,
    RemoteSite,
    Walltime,
)
from orchestration.config.variables import (
    Aps8idiSettings,
    Bl733Settings,
    Bl832Settings,
    DecisionSettings,
    PrefectSettings,
    PruningConfig,
)
from orchestration.config.watching import WatchPolicy
from orchestration.config.xpcs import XpcsDeployment, XpcsSettings

__all__ = [
    "PUBLIC",
    "REPORT_SECONDS",
    "Aps8idiSettings",
    "ArchiveEndpoint",
    "Arrivals",
    "Attempts",
    "Beamline",
    "Bl733Settings",
    "Bl832Settings",
    "CatalogueDefaults",
    "ComputeEndpoints",
    "ComputeSite",
    "Container",
    "CopyRequirement",
    "Credentials",
    "DatasetRule",
    "DecisionSettings",
    "Endpoint",
    "GlobusApp",
    "GlobusComputeSite",
    "GlobusSettings",
    "Images",
    "IriSite",
    "LedgerSettings",
    "LocalSite",
    "NerscSite",
    "NotifySettings",
    "PrefectSettings",
    "Problem",
    "PruningConfig",
    "RemoteSite",
    "RetentionRule",
    "ScicatSettings",
    "SearchIndex",
    "SearchSettings",
    "Settings",
    "SitingPolicy",
    "Streaming",
    "TransferPolicy",
    "VariableKey",
    "WaitingPolicy",
    "Walltime",
    "WatchPolicy",
    "XpcsDeployment",
    "XpcsSettings",
    "credentials",
    "environment_file",
    "inspect",
    "is_address",
    "is_principal",
    "load",
    "load_environment",
    "locate",
    "notes",
    "settings_schema",
    "smtp_login",
    "state_directory",
]
