using System.Runtime.CompilerServices;
using Pandora.TestHost;

/// <summary>
/// Part of each test program. Removes the settings (<c>PANDORA_*</c>) of the caller before the first test, however the program is started.
/// </summary>
internal static class ForgetCallersSettings
{
    [ModuleInitializer]
    internal static void Run() => CallersSettings.Forget();
}
