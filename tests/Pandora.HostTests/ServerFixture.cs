using Pandora.TestHost;

namespace Pandora.HostTests;

/// <inheritdoc/>
public class ServerFixture : ServerInWorld, IAsyncLifetime;
