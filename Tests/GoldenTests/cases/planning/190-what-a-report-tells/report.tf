# Disks of the migration plan erp, as Azure has them at 2026-11-23 04:00:00Z.
# Terraform 1.5 or newer imports them with the next apply. cmcplan keeps its marks in their tags until a migration is
# retired: their changes are ignored.

import {
  to = azurerm_managed_disk.erp_data
  id = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute/disks/cmc-erp-data-9f502d2af7a32607"
}

resource "azurerm_managed_disk" "erp_data" {
  name                 = "cmc-erp-data-9f502d2af7a32607"
  resource_group_name  = "erp"
  location             = "westeurope"
  storage_account_type = "PremiumV2_LRS"
  create_option        = "Empty"
  disk_size_gb         = 10
  zone                 = "1"
  disk_iops_read_write = 5000
  disk_mbps_read_write = 200

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [tags]
  }
}

import {
  to = azurerm_virtual_machine_data_disk_attachment.erp_data
  id = "/vm/vm/dataDisks/cmc-erp-data-9f502d2af7a32607"
}

resource "azurerm_virtual_machine_data_disk_attachment" "erp_data" {
  managed_disk_id    = azurerm_managed_disk.erp_data.id
  virtual_machine_id = "/vm/vm"
  lun                = 0
  caching            = "None"
}

# shop/data: no disk was seen, so there is nothing to import.

import {
  to = azurerm_managed_disk.wiki_data
  id = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute/disks/cmc-wiki-data-4e283c4cb7a0fc15"
}

resource "azurerm_managed_disk" "wiki_data" {
  name                 = "cmc-wiki-data-4e283c4cb7a0fc15"
  resource_group_name  = "erp"
  location             = "westeurope"
  storage_account_type = "Premium_LRS"
  create_option        = "Empty"
  disk_size_gb         = 10

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [tags]
  }
}

import {
  to = azurerm_virtual_machine_data_disk_attachment.wiki_data
  id = "/vm/vm/dataDisks/cmc-wiki-data-4e283c4cb7a0fc15"
}

resource "azurerm_virtual_machine_data_disk_attachment" "wiki_data" {
  managed_disk_id    = azurerm_managed_disk.wiki_data.id
  virtual_machine_id = "/vm/vm"
  lun                = 1
  caching            = "ReadOnly"
}

import {
  to = azurerm_managed_disk.wiki_attachments
  id = "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/erp/providers/Microsoft.Compute/disks/cmc-wiki-attachments-0a5383fd89eadf91"
}

resource "azurerm_managed_disk" "wiki_attachments" {
  name                 = "cmc-wiki-attachments-0a5383fd89eadf91"
  resource_group_name  = "erp"
  location             = "westeurope"
  storage_account_type = "StandardSSD_LRS"
  create_option        = "Empty"
  disk_size_gb         = 10

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [tags]
  }
}

import {
  to = azurerm_virtual_machine_data_disk_attachment.wiki_attachments
  id = "/vm/vm/dataDisks/cmc-wiki-attachments-0a5383fd89eadf91"
}

resource "azurerm_virtual_machine_data_disk_attachment" "wiki_attachments" {
  managed_disk_id    = azurerm_managed_disk.wiki_attachments.id
  virtual_machine_id = "/vm/vm"
  lun                = 2
  caching            = "None"
}
